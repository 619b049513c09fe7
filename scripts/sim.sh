#!/usr/bin/env bash
# Runs the simulation: scripts/sim.sh [SEED]. With a seed that one run is replayed, its events shown;
# without one, 500 seeds run, or those of PYRALOG_SEEDS=first..last.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh asan sim_test
if [ $# -gt 0 ] && [ -n "$1" ]; then
  export PYRALOG_SEED=$1
  exec build/asan/tests/sim/sim_test --gtest_filter='Simulation.keeps_*'
fi
exec ctest --test-dir build/asan -L '^sim$' --no-tests=error --output-on-failure
