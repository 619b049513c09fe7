#!/usr/bin/env bash
# In a mount namespace of its own: installs a package into a copy of this machine's root that nothing is written
# through, and does with it what people do. in_a_root.sh PACKAGE. Exit 77: this machine cannot, and why.
set -euo pipefail
package=$1

cannot() { echo "packaging: needs $*" >&2; exit 77; }
if getent passwd pyralog >/dev/null; then cannot "a machine that has no user pyralog yet"; fi
base=/mnt
{
  mount --make-rprivate / && mount -t tmpfs tmpfs $base && mkdir $base/upper $base/work $base/root &&
    mount -t overlay overlay -o lowerdir=/,upperdir=$base/upper,workdir=$base/work $base/root
} || cannot "overlays (overlayfs, and leave to mount)"
root=$base/root
mount -t proc proc $root/proc
mount --rbind /dev $root/dev
mount -t tmpfs tmpfs $root/run
mount -t tmpfs tmpfs $root/tmp
cp "$package" $root/tmp/pyralog.deb

in_root() { chroot $root env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"; }
# The index of all manual pages is not ours: it would be made anew each time, for seconds.
dpkg_in_root() { in_root dpkg --no-triggers "$@"; }
fail() { echo "packaging: $*" >&2; exit 1; }
is() { [ "$2" = "$3" ] || fail "$1: is '$2', not '$3'"; }

dpkg_in_root -i /tmp/pyralog.deb
is "the folder's owner and mode" "$(in_root stat -c '%U:%G %a' /var/lib/pyralog)" 'pyralog:pyralog 750'
is "the settings" "$(in_root stat -c '%U:%G %a' /etc/pyralog/pyralog.toml)" 'root:root 644'
in_root pgrep -x pyralog && fail "an installation has started it"

# As the unit does, but for the listeners, which are anybody's on this machine.
serve() {
  in_root runuser -u pyralog -- sh -c "echo \$\$ >/tmp/pid; exec /usr/bin/pyralog serve \
    --config /etc/pyralog/pyralog.toml --kafka 127.0.0.1:0 --http 127.0.0.1:0" >$root/tmp/ready 2>$root/tmp/log &
  for _ in $(seq 300); do
    if grep -q '^ready ' $root/tmp/ready; then return; fi
    sleep 0.1
  done
  cat $root/tmp/log >&2
  fail "it is not ready"
}
kafka() { grep -o 'kafka[= ][^ ]*:[0-9]*' $root/tmp/ready | head -n 1 | cut -c7-; }

serve
pid=$(cat $root/tmp/pid)
echo hello | in_root pyralog produce events --bootstrap "$(kafka)"

# The administrator's settings stay, and who runs goes on.
echo '# ours' >>$root/etc/pyralog/pyralog.toml
dpkg_in_root -i /tmp/pyralog.deb
tail -n 1 $root/etc/pyralog/pyralog.toml | grep -q '^# ours$' || fail "an upgrade has taken the settings"
kill -0 "$pid" || fail "an upgrade has ended the server"
kill "$pid"
wait || true

serve
is "what was written" "$(in_root pyralog consume events --from beginning --until-end --bootstrap "$(kafka)")" hello
kill "$(cat $root/tmp/pid)"
wait || true

dpkg_in_root -r pyralog
[ -f $root/etc/pyralog/pyralog.toml ] || fail "a removal has taken the settings"
[ -f $root/var/lib/pyralog/cookie ] || fail "a removal has taken data"
dpkg_in_root -P pyralog
[ ! -e $root/etc/pyralog ] || fail "a purge has left settings"
[ -f $root/var/lib/pyralog/cookie ] || fail "a purge has taken data without being told"
in_root getent passwd pyralog >/dev/null || fail "a purge has taken the user whose data are left"

dpkg_in_root -i /tmp/pyralog.deb
[ -f $root/var/lib/pyralog/cookie ] || fail "a new installation has taken data"
in_root env PYRALOG_PURGE_DATA=yes dpkg --no-triggers -P pyralog
[ ! -e $root/var/lib/pyralog ] || fail "data are left though it was told to take them"
in_root getent passwd pyralog && fail "the user is left"

dpkg_in_root -i /tmp/pyralog.deb
dpkg_in_root -P pyralog
[ ! -e $root/var/lib/pyralog ] || fail "an empty folder is left"
echo 'packaging: all well'
