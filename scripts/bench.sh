#!/usr/bin/env bash
# Runs the benchmarks: scripts/bench.sh [AREA] [OPTION ...]. Every area is a file bench/bench_AREA.py
# or bench/bench_AREA.sh; options go to it (--quick: one short pair, printed only).
#
# Without an area all of them run, one after the other; each rewrites its part of docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh release pyralog
if grep -qs PYRALOG_BENCH bench/CMakeLists.txt; then
  cmake -S . -B build/release -DPYRALOG_BENCH=ON >/dev/null
  scripts/build.sh release
fi

areas() {
  find bench -maxdepth 1 -type f \( -name 'bench_*.sh' -o -name 'bench_*.py' \) -printf '%f\n' |
    sed 's/^bench_//; s/\.[a-z]*$//' | sort
}
run_area() {
  local area=$1 file
  shift
  for file in "bench/bench_$area.sh" "bench/bench_$area.py"; do
    if [ -f "$file" ]; then
      case "$file" in *.py) python3 "$file" "$@" ;; *) bash "$file" "$@" ;; esac
      return
    fi
  done
  echo "bench: no area '$area'; there are: $(areas | paste -sd' ')" >&2
  return 2
}

case "${1:-}" in
  "" | -*) for area in $(areas); do run_area "$area" "$@"; done ;;
  *) run_area "$@" ;;
esac
