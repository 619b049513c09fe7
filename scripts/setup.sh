#!/usr/bin/env bash
# Installs what building (run), testing (test) and measuring (bench) Pyralog needs.
#
#   scripts/setup.sh run|test|bench|demo [--print]
#
# Each of the first three lists contains the one before it; demo is what `make demo` needs beside
# the built server. The script says what it installs and why; a stamp makes the
# second call instant and offline. --print shows the list and changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "usage: scripts/setup.sh run|test|bench|demo [--print]" >&2
  exit 2
}

LIST=${1:-}
PRINT=${2:-}
case "$LIST" in run | test | bench | demo) ;; *) usage ;; esac
case "$PRINT" in "" | --print) ;; *) usage ;; esac

# package | why
RUN_PACKAGES="
clang-22|the compiler
libclang-rt-22-dev|sanitizer and fuzzer run-time libraries of the compiler
lld-22|the linker
mold|the faster linker
cmake|configures the build
ninja-build|runs the build
make|runs the Makefile
ccache|keeps what was compiled before
pkg-config|finds libraries that have no CMake files
python3|generators that the build runs
ca-certificates|package downloads
libboost1.81-dev|event loop and HTTP (Asio, Beast)
libfmt-dev|formatting
libspdlog-dev|log lines
libcli11-dev|the command line
libtomlplusplus-dev|the configuration file
libsimdjson-dev|reading JSON
nlohmann-json3-dev|writing JSON
libzstd-dev|zstd record batches
liblz4-dev|lz4 record batches
libsnappy-dev|snappy record batches
libdeflate-dev|gzip record batches
zlib1g-dev|gzip in bounded steps
libisal-dev|CRC-32C
libxxhash-dev|hashes
libssl-dev|proofs and codes of messages between nodes
"
TEST_PACKAGES="
libgtest-dev|unit tests
libgmock-dev|unit tests
librapidcheck-dev|property tests
kcat|a Kafka client we did not write
librdkafka-dev|a Kafka client we did not write
python3-pip|test clients from PyPI
python3-venv|test clients from PyPI
maven|test clients in Java
e2fsprogs|power-loss tests on a loop-mounted image
strace|fault tests
curl|reading health and metrics in the documents' examples
iproute2|tests in a network namespace of their own
procps|pgrep, which the examples find a node with
debootstrap|make fresh: a bare Debian root
dpkg-dev|make deb: what the binary's libraries are called
adduser|the package's user
man-db|the manual page, as installed
systemd|whether the package's unit is sound
iso-codes|a real data set for the round trip
clang-format-22|make format
clang-tidy-22|make lint
"
BENCH_PACKAGES="
libbenchmark-dev|micro benchmarks
"

DEMO_PACKAGES="
kcat|a Kafka client we did not write
iso-codes|a real data set for the round trip
"

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

has_java_17() {
  command -v javac >/dev/null 2>&1 || return 1
  local major
  major=$(javac -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p')
  [ "${major:-0}" -ge 17 ]
}

wanted() {
  if [ "$LIST" = demo ]; then
    printf '%s' "$DEMO_PACKAGES"
    return 0
  fi
  printf '%s' "$RUN_PACKAGES"
  [ "$LIST" = run ] && return 0
  printf '%s' "$TEST_PACKAGES"
  # Tools that may well be here from another source are taken from Debian only where they are not.
  has_java_17 || echo "openjdk-17-jdk-headless|test clients in Java"
  command -v node >/dev/null 2>&1 || echo "nodejs|test clients in JavaScript"
  command -v npm >/dev/null 2>&1 || echo "npm|test clients in JavaScript"
  command -v go >/dev/null 2>&1 || echo "golang-go|fetches the scripts that etcd's Raft publishes"
  [ "$LIST" = test ] && return 0
  printf '%s' "$BENCH_PACKAGES"
}

is_installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Debian's own cross-toolchain fallback: clang 19 stands in for clang 22, package by package.
use_clang_19() {
  RUN_PACKAGES=${RUN_PACKAGES//-22/-19}
  TEST_PACKAGES=${TEST_PACKAGES//-22/-19}
}

WANTED=$(wanted | grep -v '^$')

if [ "$PRINT" = --print ]; then
  echo "$WANTED" | while IFS='|' read -r name why; do printf '  %-26s %s\n' "$name" "$why"; done
  exit 0
fi

STAMP_DIR=build/.setup
STAMP=$STAMP_DIR/$LIST.stamp
# What the stamp stands for: this script and the machine's system. The clients' own setup scripts
# have stamps of their own.
FINGERPRINT=$(cat scripts/setup.sh /etc/os-release 2>/dev/null | sha256sum | cut -d' ' -f1)

clients_and_peers() {
  case "$LIST" in
    test) bash tests/clients/setup.sh ;;
    bench) bash tests/clients/setup.sh && bash bench/setup.sh ;;
  esac
}

if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$FINGERPRINT" ]; then
  clients_and_peers
  exit 0
fi

debian_12_x86_64() {
  [ -r /etc/os-release ] || return 1
  (
    # shellcheck disable=SC1091
    . /etc/os-release
    [ "${ID:-}" = debian ] && [ "${VERSION_ID:-}" = 12 ] && [ "$(uname -m)" = x86_64 ]
  )
}

go_on_if_tools_are_here() {
  say "this is not Debian 12 on x86-64, so nothing is installed. Needed here (Debian's names):"
  echo "$WANTED" | while IFS='|' read -r name why; do printf '  %-26s %s\n' "$name" "$why"; done
  local missing="" tool
  for tool in cmake ninja python3; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
  done
  command -v clang++-22 >/dev/null 2>&1 || command -v clang++ >/dev/null 2>&1 || missing="$missing clang++"
  [ -z "$missing" ] || die "missing:$missing; install them and call this again"
  say "the tools are here; going on"
}

APT="apt-get -o DPkg::Lock::Timeout=300 -o APT::Install-Recommends=false"

# Runs apt-get as root; waits up to five minutes while another apt holds a lock.
apt_as_root() {
  local deadline=$((SECONDS + 300)) out rc told=""
  out=$(mktemp)
  while :; do
    rc=0
    $SUDO env DEBIAN_FRONTEND=noninteractive $APT "$@" >"$out" 2>&1 || rc=$?
    [ "$rc" != 0 ] || break
    if grep -qE 'Could not get lock|Unable to lock|is another process using it' "$out" &&
      [ "$SECONDS" -lt "$deadline" ]; then
      [ -n "$told" ] || say "another apt is at work; waiting up to five minutes"
      told=1
      sleep 3
      continue
    fi
    break
  done
  if [ "$rc" != 0 ]; then tail -n 30 "$out" >&2; fi
  rm -f "$out"
  return "$rc"
}

names() { echo "$WANTED" | cut -d'|' -f1; }

missing_packages() {
  local name
  for name in $(names); do is_installed "$name" || echo "$name"; done
}

unknown_packages() {
  local name
  for name in "$@"; do
    apt-cache show --no-all-versions "$name" >/dev/null 2>&1 || echo "$name"
  done
}

lists_are_old() {
  [ -z "$(find /var/lib/apt/lists/partial -maxdepth 0 -mtime -1 2>/dev/null)" ]
}

install_missing() {
  local missing unknown
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null 2>&1 || die "no apt-get here. As root, install:" $missing

  say "to be installed for '$LIST':"
  echo "$WANTED" | while IFS='|' read -r name why; do
    if ! is_installed "$name"; then printf '  %-26s %s\n' "$name" "$why"; fi
  done

  if [ "$(id -u)" = 0 ]; then
    SUDO=
  elif command -v sudo >/dev/null 2>&1; then
    SUDO=sudo
  else
    say "neither root nor sudo here. As root, run this one line and call again:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends" $missing >&2
    exit 1
  fi

  unknown=$(unknown_packages $missing)
  if [ -n "$unknown" ] || lists_are_old; then
    say "apt-get update"
    apt_as_root update -q || die "apt-get update failed; see above"
    unknown=$(unknown_packages $missing)
  fi
  if echo "$unknown" | grep -q '^clang-22$'; then
    say "clang-22 is not in this machine's package lists. It comes from Debian's security suite:"
    say "  add the suite 'bookworm-security' to the apt sources, run 'apt-get update', call this again."
    say "Going on with clang-19 from Debian main; this is untested."
    use_clang_19
    WANTED=$(wanted | grep -v '^$')
    missing=$(missing_packages)
    unknown=$(unknown_packages $missing)
  fi
  [ -z "$unknown" ] || die "apt does not know:" $unknown "- turn on Debian's main suite and call again"
  [ -n "$missing" ] || return 0

  say "apt-get install (this takes a minute or two)"
  apt_as_root install -y -q $missing || die "apt-get install failed; see above"
}

if debian_12_x86_64; then
  install_missing
else
  go_on_if_tools_are_here
fi

clients_and_peers

mkdir -p "$STAMP_DIR"
echo "$FINGERPRINT" >"$STAMP"
say "'$LIST' is ready"
