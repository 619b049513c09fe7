#!/usr/bin/env bash
# Runs the tests, prints what each step took and, last, one line with the sum.
#
#   scripts/test.sh [STEP ...]     all steps in order by default
#   scripts/test.sh --list
#
# Every step can run alone; it builds what it needs first. With CI=true a skipped test is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."

# Property tests draw the same here every time, so that a change is judged by what it changes; soak
# draws anew, and ten times as often.
export RC_PARAMS="${RC_PARAMS:-seed=20261127}"

STEPS="setup house release docs e2e asan unit tsan"
describe() {
  cat <<'TEXT'
setup    install what the tests need (scripts/setup.sh test)
house    the rules of the source tree, and that each rule catches its violation
release  build the release
docs     every shell block of README.md and docs/
e2e      end to end with real clients, release build
asan     build everything with ASan and UBSan
unit     unit, property, fuzz-smoke and simulation tests under ASan and UBSan
tsan     build and run the tests of io and observe under TSan
TEXT
}

RESULTS=build/test-results
PASSED=0
FAILED=0
SKIPPED=0
TABLE=""
RED=""

# count PASSED FAILED SKIPPED
count() {
  PASSED=$((PASSED + $1))
  FAILED=$((FAILED + $2))
  SKIPPED=$((SKIPPED + $3))
}

# Adds up a ctest result file and names what failed or was skipped.
count_ctest() {
  local numbers
  if ! numbers=$(python3 scripts/junit_count.py "$1"); then
    count 0 1 0
    return 1
  fi
  # shellcheck disable=SC2086
  count $numbers
}

# run_ctest NAME BUILD ARGS...
run_ctest() {
  local name=$1 build=$2 rc=0
  shift 2
  local file=$PWD/$RESULTS/$name.xml
  rm -f "$file"
  ctest --test-dir "$build" --output-on-failure --no-tests=error -j "${TEST_JOBS:-$(nproc)}" \
    --timeout 900 --output-junit "$file" "$@" || rc=$?
  if [ ! -f "$file" ]; then
    count 0 1 0
    return 1
  fi
  count_ctest "$file" || return 1
  return "$rc"
}

# A build counts as one failed test if it fails, and as none if it does not.
build() { scripts/build.sh "$@" || { count 0 1 0; return 1; }; }

need() { [ -f "build/$1/build.ninja" ] || build "$@"; }

step_setup() { scripts/setup.sh test || { count 0 1 0; return 1; }; }
step_release() { build release; }
step_house() {
  build release || return 1
  run_ctest house build/release -L '^house$'
}
step_docs() {
  build release || return 1
  run_ctest docs build/release -L '^docs$'
}
step_e2e() {
  build release || return 1
  # Each test starts servers and clients of its own and mostly waits for timeouts.
  TEST_JOBS=${E2E_JOBS:-3} run_ctest e2e build/release -L '^e2e$'
}
step_asan() { build asan; }
step_unit() {
  build asan || return 1
  ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0} \
    UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1} \
    run_ctest unit build/asan -L '^(unit|property|fuzz-smoke|sim)$'
}
step_tsan() {
  scripts/build.sh tsan help 2>/dev/null | sed -n 's/^\([a-z_]*_test\): phony.*/\1/p' >"$RESULTS/targets"
  local targets
  targets=$(grep -E '^(io|io_posix|io_sim|observe)_test$' "$RESULTS/targets" | sort -u)
  [ -n "$targets" ] || { echo "tsan: no test target of io or observe"; count 0 1 0; return 1; }
  # shellcheck disable=SC2086
  build tsan $targets || return 1
  run_ctest tsan build/tsan -R "^unit_($(echo "$targets" | sed 's/_test$//' | paste -sd'|'))\$"
}

run_step() {
  local name=$1 start=$SECONDS rc=0 failed_before=$FAILED
  printf '\n== %s\n' "$name"
  "step_$name" || rc=$?
  if [ "$rc" != 0 ] && [ "$FAILED" = "$failed_before" ]; then count 0 1 0; fi
  local result=green
  [ "$rc" = 0 ] || result=red
  [ "$rc" = 0 ] || RED="$RED $name"
  TABLE+=$(printf '%-10s %8d  %s' "$name" "$((SECONDS - start))" "$result")$'\n'
  return "$rc"
}

if [ "${1:-}" = --list ]; then
  describe
  exit 0
fi
mkdir -p "$RESULTS"
chosen=${*:-$STEPS}
for name in $chosen; do
  if ! declare -F "step_$name" >/dev/null; then
    echo "test: no step '$name'; scripts/test.sh --list names them" >&2
    exit 2
  fi
done
for name in $chosen; do
  # Nothing else can run when the packages are missing.
  if ! run_step "$name" && [ "$name" = setup ]; then break; fi
done

printf '\n%-10s %8s  %s\n' step seconds result
printf '%s' "$TABLE"
printf '%-10s %8d  (budget 2400)\n\n' total "$SECONDS"
[ -z "$RED" ] || echo "red:$RED"
if [ "$SKIPPED" -gt 0 ]; then
  if [ "${CI:-}" = true ]; then
    echo "$SKIPPED skipped tests count as failed with CI=true"
    FAILED=$((FAILED + SKIPPED))
    echo "$PASSED passed, $FAILED failed"
  else
    echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
  fi
else
  echo "$PASSED passed, $FAILED failed"
fi
[ "$FAILED" = 0 ] && [ -z "$RED" ]
