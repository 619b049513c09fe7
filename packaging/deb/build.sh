#!/usr/bin/env bash
# Makes pyralog_VERSION_ARCH.deb of what build/release holds: packaging/deb/build.sh [BUILD [OUTPUT-FOLDER]]
#
# Depends on just the libraries that the binary links, in the versions that dpkg-shlibdeps finds.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath "${1:-build/release}")
output=${2:-build/deb}
here=$PWD/packaging/deb
for tool in dpkg-deb dpkg-shlibdeps cmake strip; do
  command -v "$tool" >/dev/null || { echo "deb: needs $tool; apt-get install dpkg-dev cmake binutils" >&2; exit 1; }
done
mkdir -p "$output"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

umask 022
DESTDIR=$root cmake --install "$build" --component pyralog --prefix /usr >/dev/null
strip --strip-unneeded "$root/usr/bin/pyralog"
docs=$root/usr/share/doc/pyralog
install -D -m 644 packaging/pyralog.toml "$root/etc/pyralog/pyralog.toml"
{
  echo 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/'
  echo 'Upstream-Name: pyralog'
  echo
  cat LICENSE
  echo
  # What is compiled in, with its terms.
  "$root/usr/bin/pyralog" version --licences
} >"$docs/copyright"
rm "$docs/LICENSE"
gzip -9n "$docs/CHANGELOG.md" "$root/usr/share/man/man1/pyralog.1"
mv "$docs/CHANGELOG.md.gz" "$docs/changelog.gz"

# dpkg-shlibdeps wants the folder of a source package.
mkdir -p "$work/source/debian"
printf 'Source: pyralog\n\nPackage: pyralog\nArchitecture: any\n' >"$work/source/debian/control"
depends=$(cd "$work/source" && dpkg-shlibdeps -O "$root/usr/bin/pyralog" 2>"$work/shlibdeps.err" |
  sed -n 's/^shlibs:Depends=//p') || { cat "$work/shlibdeps.err" >&2; exit 1; }
version=$("$root/usr/bin/pyralog" version --json |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["version"])')
arch=$(dpkg --print-architecture)

mkdir "$root/DEBIAN"
size=$(du -k --apparent-size -s --exclude=DEBIAN "$root" | cut -f1)
sed -e "s|@version@|$version|" -e "s|@arch@|$arch|" -e "s|@depends@|$depends|" -e "s|@size@|$size|" \
  "$here/control.in" >"$root/DEBIAN/control"
echo /etc/pyralog/pyralog.toml >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 755 "$here/$script" "$root/DEBIAN/$script"; done
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) >"$work/md5sums"
install -m 644 "$work/md5sums" "$root/DEBIAN/md5sums"

# Two builds of one tree give the same bytes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
find "$root" -print0 | xargs -0 touch --no-dereference --date="@$SOURCE_DATE_EPOCH"
package=$output/pyralog_${version}_$arch.deb
# Compressed in a second, and not in twenty for a fifth less. By one thread: several give other bytes each time.
dpkg-deb --threads-max=1 --root-owner-group -Zzstd -z9 --build "$root" "$package" >/dev/null
echo "$package"
