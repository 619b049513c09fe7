#!/usr/bin/env bash
# Follows the README's first screen word by word in a bare Debian 12, as an ordinary user with sudo,
# up to `make demo`; then stops everything and does `make run` once more without a network.
#
#   tests/fresh/fresh.sh [--keep]      --keep leaves build/fresh/root for a look inside
#
# Needs root, debootstrap, util-linux and this machine's own way to Debian's packages, which is
# copied into the root. The bare root is made once and kept in build/fresh/bare.
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$PWD
here=$repository/build/fresh
root=$here/root
bare=$here/bare
budget=${FRESH_BUDGET_SECONDS:-600}
keep=${1:-}

say() { printf 'fresh: %s\n' "$*"; }
needs() {
  say "skipped: needs $*" >&2
  if [ "${CI:-}" = true ]; then exit 1; fi
  exit 77
}
[ "$(id -u)" = 0 ] || needs "root, for debootstrap and chroot"
for tool in debootstrap unshare chroot git ip; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || needs "$tool (scripts/setup.sh test)"
done
PATH=$PATH:/usr/sbin:/sbin
# The first screen needs the network for packages, so it shares this machine's ports.
for port in 9092 9094; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    say "port $port of 127.0.0.1 is in use; end who listens there and call again" >&2
    exit 1
  fi
done

# The address of Debian's packages as this machine's apt knows it.
mirror() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk '$2 == "bookworm" || $2 == "stable" { print $1; exit }'
}

make_bare() {
  [ -f "$bare/.complete" ] && return
  local from
  from=$(mirror)
  [ -n "$from" ] || needs "an apt source for bookworm"
  say "making a bare Debian 12 (once)"
  rm -rf "$bare"
  mkdir -p "$here"
  # debootstrap does not read apt's settings; a proxy that apt uses is handed on.
  local proxy=
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  if ! env ${proxy:+http_proxy="$proxy"} debootstrap --variant=minbase --include=sudo,ca-certificates bookworm \
    "$bare" "$from" >"$here/debootstrap.log" 2>&1; then
    tail -n 20 "$here/debootstrap.log" >&2
    exit 1
  fi
  rm -rf "$bare/etc/apt/sources.list" "$bare/var/cache/apt/archives/"*.deb
  touch "$bare/.complete"
}

copy_apt_settings() {
  local name
  rm -f "$root/etc/apt/sources.list"
  for name in sources.list sources.list.d apt.conf.d auth.conf.d keyrings trusted.gpg.d; do
    if [ -e "/etc/apt/$name" ]; then
      rm -rf "$root/etc/apt/$name"
      cp -a "/etc/apt/$name" "$root/etc/apt/$name"
    fi
  done
  # Other projects' sources and hooks are not part of a bare system.
  find "$root/etc/apt/sources.list.d" -type f ! -name 'debian*' -delete
  rm -f "$root/etc/apt/apt.conf.d/"{20packagekit,50appstream}
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  if [ -d /usr/local/share/ca-certificates ]; then
    cp -a /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
    chroot "$root" update-ca-certificates >/dev/null 2>&1
  fi
}

make_root() {
  rm -rf "$root"
  cp -a --reflink=auto "$bare" "$root"
  copy_apt_settings
  chroot "$root" useradd -m -s /bin/bash ada
  echo 'ada ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/ada"
  git clone -q --bare "$repository" "$root/srv/pyralog.git"
  chroot "$root" chown -R ada: /srv/pyralog.git
  python3 tests/fresh/first_screen.py README.md /srv/pyralog.git >"$root/home/ada/first-screen.sh"
  cat >"$root/home/ada/again.sh" <<'SCRIPT'
set -eo pipefail
cd ~/pyralog
make run >~/again.log 2>&1 &
for _ in $(seq 600); do
  if grep -q '^ready ' ~/again.log; then echo "fresh: ready again without a network"; exit 0; fi
  kill -0 $! 2>/dev/null || break
  sleep 0.1
done
cat ~/again.log
exit 1
SCRIPT
}

# inside NETWORK SCRIPT: runs a script of ada's in the root; every process ends with it.
inside() {
  local network=$1 script=$2
  # shellcheck disable=SC2016
  unshare --mount --pid --fork --kill-child $network bash -euc '
    mount --make-rprivate /
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    if [ -n "$3" ]; then ip link set lo up; fi
    exec chroot "$1" /usr/sbin/runuser -u ada -- env -i HOME=/home/ada USER=ada LANG=C.UTF-8 \
      PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin bash "/home/ada/$2"' \
    inside "$root" "$script" "$network" </dev/null
}

cleanup() { [ "$keep" = --keep ] || rm -rf "$root"; }
trap cleanup EXIT

make_bare
make_root
say "following README.md"
start=$SECONDS
rc=0
inside "" first-screen.sh >"$here/first-screen.log" 2>&1 || rc=$?
tr -d '\001' <"$here/first-screen.log" | tail -n 60
[ "$rc" = 0 ] || { say "the first screen failed (exit $rc); the log is $here/first-screen.log" >&2; exit 1; }
grep -q 'demo: the same bytes came back' "$here/first-screen.log" || { say "make demo did not end well" >&2; exit 1; }
ready=$(sed -n 's/^fresh: ready after \([0-9]*\) s$/\1/p' "$here/first-screen.log" | head -n 1)
say "a cold make run was ready after ${ready:-?} s; the whole first screen took $((SECONDS - start)) s"

say "make run once more, without a network"
inside --net again.sh
if [ "${ready:-9999}" -gt "$budget" ]; then
  say "a cold make run took longer than $budget s" >&2
  exit 1
fi
echo "1 passed, 0 failed"
