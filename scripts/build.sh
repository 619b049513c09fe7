#!/usr/bin/env bash
# Configures a preset and builds it: scripts/build.sh PRESET [TARGET ...]
#
# Runs at low priority with as many jobs as there are cores (JOBS=n overrides).
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:?usage: scripts/build.sh PRESET [TARGET ...]}
shift

compiler=()
if ! command -v clang++-22 >/dev/null 2>&1; then
  for name in clang++-21 clang++-20 clang++-19 clang++; do
    if command -v "$name" >/dev/null 2>&1; then
      echo "build: clang++-22 is not here; taking $name (untested)" >&2
      compiler=(-DCMAKE_CXX_COMPILER="$name" -DCMAKE_C_COMPILER="${name/++/}")
      break
    fi
  done
fi

log=build/$preset.configure.log
mkdir -p build
if [ ! -f "build/$preset/build.ninja" ]; then
  if ! cmake --preset "$preset" "${compiler[@]}" >"$log" 2>&1; then
    cat "$log" >&2
    echo "build: configuring '$preset' failed; see above (scripts/setup.sh run installs what it needs)" >&2
    exit 1
  fi
fi
exec nice -n 5 cmake --build "build/$preset" -j "${JOBS:-$(nproc)}" ${1:+--target} "$@"
