#!/usr/bin/env bash
# Installs the benchmark peers into the ignored folder .deps/ of the repository.
# Usage: bench/setup.sh [kafka] [nats]   (default: both)
# A second call with unchanged manifests does nothing and needs no network.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
deps="${PYRALOG_DEPS:-$(cd "$here/.." && pwd)/.deps}"
mkdir -p "$deps"
exec 9>"$deps/bench.lock"
flock 9

digest() { sha256sum <"$1" | cut -d' ' -f1; }
fresh() { [[ -f "$deps/$1.stamp" && "$(cat "$deps/$1.stamp")" == "$(digest "$2")" ]]; }

install_kafka() {
  fresh kafka "$here/pom.xml" && return
  echo "bench: Apache Kafka and its tools -> .deps/kafka"
  rm -rf "$deps/kafka"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$deps/kafka"
  digest "$here/pom.xml" >"$deps/kafka.stamp"
}

install_nats() {
  fresh nats "$here/requirements.txt" && return
  echo "bench: NATS server -> .deps/nats"
  rm -rf "$deps/nats"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --only-binary :all: --no-deps --require-hashes --target "$deps/nats" \
    -r "$here/requirements.txt"
  digest "$here/requirements.txt" >"$deps/nats.stamp"
}

[[ $# -eq 0 ]] && set -- kafka nats
for part in "$@"; do
  case "$part" in
    kafka | nats) "install_$part" ;;
    *)
      echo "bench: unknown peer \"$part\"; known are kafka, nats" >&2
      exit 2
      ;;
  esac
done
