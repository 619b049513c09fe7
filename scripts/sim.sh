#!/usr/bin/env bash
# Runs the simulation: scripts/sim.sh [SEED]. With a seed that one run is replayed, its events shown.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh asan
if [ $# -gt 0 ] && [ -n "$1" ]; then
  export PYRALOG_SEED=$1
  exec ctest --test-dir build/asan -L '^sim$' --no-tests=error -V
fi
exec ctest --test-dir build/asan -L '^sim$' --no-tests=error --output-on-failure -j "$(nproc)"
