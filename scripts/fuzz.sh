#!/usr/bin/env bash
# Builds every fuzzer and runs each for FUZZ_SECONDS (60); scripts/fuzz.sh [NAME ...] runs some.
#
# The corpus grows under build/fuzz-corpus/NAME; what crashes is kept under build/fuzz-crashes/.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
# Configuring again finds fuzzers that came since.
scripts/build.sh fuzz help >/dev/null
targets=$(scripts/build.sh fuzz help | sed -n 's/^\(fuzz_[a-z0-9_]*\): phony.*/\1/p' | sort -u)
if [ $# -gt 0 ]; then targets=$*; fi
[ -n "$targets" ] || { echo "fuzz: there is no fuzzer" >&2; exit 1; }
# shellcheck disable=SC2086
scripts/build.sh fuzz $targets

mkdir -p build/fuzz-crashes
passed=0
failed=0
for name in $targets; do
  binary=$(find build/fuzz -type f -name "$name" -perm -u+x -print -quit)
  mkdir -p "build/fuzz-corpus/$name"
  source=$(find src tests -name "$name.cc" -print -quit)
  seeds=$(dirname "$source")/corpus/$name
  [ -d "$seeds" ] || seeds=
  echo "== $name for $seconds s"
  if "$binary" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build/fuzz-crashes/$name-" "build/fuzz-corpus/$name" $seeds \
    >"build/fuzz-crashes/$name.log" 2>&1; then
    passed=$((passed + 1))
    grep -E 'number_of_executed_units|peak_rss' "build/fuzz-crashes/$name.log" || true
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz-crashes/$name.log")
    echo "soak: $name count=${count:-0}"
  else
    failed=$((failed + 1))
    tail -n 40 "build/fuzz-crashes/$name.log"
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
