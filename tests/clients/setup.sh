#!/usr/bin/env bash
# Installs the pinned test clients into the ignored folder .deps/ of the repository.
# Usage: tests/clients/setup.sh [py] [npm] [java] [debian] [promtool]     (default: all)
# A second call with unchanged manifests does nothing and needs no network.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
deps="${PYRALOG_DEPS:-$(cd "$here/../.." && pwd)/.deps}"
mkdir -p "$deps"
exec 9>"$deps/clients.lock"
flock 9

# fresh NAME FILE...: true if the stamp of NAME is newer knowledge than its manifests
digest() { cat "$@" | sha256sum | cut -d' ' -f1; }
fresh() { local name=$1; shift; [[ -f "$deps/$name.stamp" && "$(cat "$deps/$name.stamp")" == "$(digest "$@")" ]]; }
stamp() { local name=$1; shift; digest "$@" >"$deps/$name.stamp"; }

install_py() {
  fresh py "$here/requirements.txt" && return
  echo "clients: confluent-kafka, kafka-python and codecs -> .deps/py"
  rm -rf "$deps/py"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --only-binary :all: --no-deps --require-hashes --target "$deps/py" \
    -r "$here/requirements.txt"
  stamp py "$here/requirements.txt"
}

install_npm() {
  fresh npm "$here/package-lock.json" && return
  echo "clients: kafkajs and codecs -> .deps/npm"
  rm -rf "$deps/npm"
  mkdir -p "$deps/npm"
  cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$deps/npm/"
  (cd "$deps/npm" && npm ci --ignore-scripts --silent)
  stamp npm "$here/package-lock.json"
}

install_java() {
  fresh java "$here/pom.xml" && return
  echo "clients: Java kafka-clients -> .deps/java"
  rm -rf "$deps/java"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$deps/java"
  stamp java "$here/pom.xml"
}

install_debian() {
  local packages=(kcat librdkafka-dev nlohmann-json3-dev) missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [[ ${#missing[@]} -eq 0 ]] && return
  local sudo=()
  if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || {
      echo "clients: run as root: apt-get install -y --no-install-recommends ${missing[*]}" >&2
      return 1
    }
    sudo=(sudo)
  fi
  echo "clients: Debian packages ${missing[*]}"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
    install -y -q --no-install-recommends "${missing[@]}" >/dev/null
}

# What checks metrics and alerts for Prometheus, taken out of its package: to install that starts a server.
install_promtool() {
  if command -v promtool >/dev/null || [[ -x "$deps/prometheus/usr/bin/promtool" ]]; then return; fi
  echo "clients: promtool -> .deps/prometheus"
  local folder
  folder=$(mktemp -d)
  if (cd "$folder" && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; } &&
      dpkg-deb -x prometheus_*.deb unpacked) >"$folder/log" 2>&1; then
    rm -rf "$deps/prometheus"
    mv "$folder/unpacked" "$deps/prometheus"
  else
    cat "$folder/log" >&2
    rm -rf "$folder"
    return 1
  fi
  rm -rf "$folder"
}

[[ $# -eq 0 ]] && set -- py npm java debian promtool
for part in "$@"; do
  case "$part" in
    py | npm | java | debian | promtool) "install_$part" ;;
    *)
      echo "clients: unknown part \"$part\"; known are py, npm, java, debian, promtool" >&2
      exit 2
      ;;
  esac
done
