#!/usr/bin/env bash
# A real data set through Pyralog and back: the countries and subdivisions of the world, as Debian's
# package iso-codes ships them, are sent with kcat and read again; the SHA-256 of both must agree.
#
# The server listens on free ports and keeps its data in a temporary directory.
set -euo pipefail
cd "$(dirname "$0")/.."
server=${PYRALOG_BINARY:-build/release/pyralog}
[ -x "$server" ] || { echo "demo: $server is missing; build it with 'make'" >&2; exit 1; }
scripts/setup.sh demo

work=$(mktemp -d)
pid=
cleanup() {
  if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

python3 - >"$work/sent" <<'PYTHON'
import json
for number in ("3166-1", "3166-2"):
    with open(f"/usr/share/iso-codes/json/iso_{number}.json", encoding="utf-8") as file:
        for entry in json.load(file)[number]:
            key = entry.get("alpha_2") or entry["code"]
            print(key + "\t" + json.dumps(entry, ensure_ascii=False, sort_keys=True))
PYTHON

"$server" serve --data-dir "$work/data" --kafka 127.0.0.1:0 --http 127.0.0.1:0 \
  >"$work/ready" 2>"$work/log" &
pid=$!
for _ in $(seq 300); do
  if grep -q '^ready ' "$work/ready"; then break; fi
  kill -0 "$pid" 2>/dev/null || { cat "$work/log" >&2; echo "demo: the server did not start" >&2; exit 1; }
  sleep 0.1
done
kafka=$(sed -n 's/^ready .*kafka=\([^ ]*\).*/\1/p' "$work/ready")
[ -n "$kafka" ] || { cat "$work/log" >&2; echo "demo: the server was not ready within 30 s" >&2; exit 1; }
echo "demo: the server is at $kafka"

kcat -q -P -b "$kafka" -t countries -K '\t' -z zstd -X acks=all <"$work/sent"
timeout 60 kcat -q -C -b "$kafka" -t countries -o beginning -e -f '%k\t%s\n' >"$work/got"

sent=$(sha256sum <"$work/sent" | cut -d' ' -f1)
got=$(sha256sum <"$work/got" | cut -d' ' -f1)
echo "demo: sent $(wc -l <"$work/sent") records, sha256 $sent"
echo "demo: got  $(wc -l <"$work/got") records, sha256 $got"
[ "$sent" = "$got" ] || { echo "demo: what came back is not what was sent" >&2; exit 1; }
grep -m1 '^EG' "$work/got"
echo "demo: the same bytes came back"
