#!/usr/bin/env python3
"""A data directory that is not this server's to open: in use, unknown, mixed up, or written by a
newer version. Each is refused with a clear message, and nothing is lost."""

import hashlib
import shutil
import signal
import struct

import command
from command import CommandTest, pyralog
from wire import crc32c

LINES = "".join(f"line {n}\n" for n in range(100)).encode()


class Directory(CommandTest):
    def setUp(self):
        super().setUp()
        self.data = self.folder / "data"

    def filled(self, folder=None):
        """A data directory that was closed in order and holds LINES in topic t."""
        broker = self.server("--shards", "1", folder=folder)
        self.good("topic", "create", "t", "--bootstrap", broker.bootstrap)
        self.good("produce", "t", "--bootstrap", broker.bootstrap, given=LINES)
        self.end(broker)

    def end(self, broker):
        broker.process.send_signal(signal.SIGTERM)
        self.assertEqual(broker.process.wait(15), 0, broker.log_tail())

    def serve_fails(self, says, data=None, code=1):
        return self.refused("serve", "--data-dir", data or self.data, "--kafka", "127.0.0.1:0",
                            "--shards", "1", code=code, says=says)

    def everything_is_there(self, *options):
        broker = self.server("--shards", "1", *options)
        got = self.good("consume", "t", "--from", "beginning", "--until-end", "--bootstrap",
                        broker.bootstrap)
        self.assertEqual(got.out.encode(), LINES)
        self.end(broker)

    def contents(self):
        return {str(path.relative_to(self.data)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(self.data.rglob("*")) if path.is_file()}

    def refused_untouched(self, says, counted=False):
        """`counted`: the start has been counted, in the cookie and the metadata log, but no more."""
        before = self.contents()
        self.serve_fails(says)
        after = self.contents()
        for name in ("cookie", "metadata.log") if counted else ():
            del before[name], after[name]
        self.assertEqual(after, before)

    def patched(self, path, at, raw, checksum=None):
        """Writes `raw` into a file at `at`; `checksum` = (begin, end, where its CRC-32C goes)."""
        whole = bytearray(path.read_bytes())
        whole[at:at + len(raw)] = raw
        if checksum:
            begin, end, where = checksum
            end = len(whole) + end if end < 0 else end
            where = len(whole) + where if where < 0 else where
            whole[where:where + 4] = struct.pack("<I", crc32c(bytes(whole[begin:end])))
        path.write_bytes(whole)

    def test_a_second_process_is_refused_and_the_first_serves_on(self):
        broker = self.server()
        self.good("topic", "create", "t", "--bootstrap", broker.bootstrap)
        self.serve_fails([str(self.data), "another pyralog is running on it", "--data-dir"])
        self.good("produce", "t", "--bootstrap", broker.bootstrap, given=LINES)
        self.end(broker)
        self.everything_is_there()

    def test_a_killed_process_leaves_no_lock(self):
        broker = self.server("--shards", "1")
        self.good("topic", "create", "t", "--bootstrap", broker.bootstrap)
        self.good("produce", "t", "--bootstrap", broker.bootstrap, given=LINES)
        broker.process.kill()
        broker.process.wait()
        self.everything_is_there()

    def test_a_cookie_of_another_directory_is_refused(self):
        self.filled()
        self.filled(folder=self.folder / "other")
        cookie = self.data / "cookie"
        own = cookie.read_bytes()
        shutil.copy(self.folder / "other" / "data" / "cookie", cookie)
        self.refused_untouched([str(cookie), "another cluster"])
        cookie.write_bytes(own)
        self.everything_is_there()

    def test_an_older_cookie_is_refused(self):
        self.filled()
        cookie = self.data / "cookie"
        older = cookie.read_bytes()
        self.everything_is_there()
        own = cookie.read_bytes()
        cookie.write_bytes(older)
        self.refused_untouched([str(cookie), "older than what was registered", "restored"])
        cookie.write_bytes(own)
        self.everything_is_there()

    def test_an_unknown_disk_is_refused(self):
        self.filled()
        cookie = self.data / "cookie"
        own = cookie.read_bytes()
        # The incarnation's 16 bytes follow magic, version, cluster and node.
        self.patched(cookie, 8 + 4 + 16 + 4, bytes(16), checksum=(0, -4, -4))
        self.refused_untouched([str(cookie), "unknown", "replace-disk"])
        cookie.write_bytes(own)
        self.everything_is_there()

    def test_a_missing_or_damaged_cookie_is_refused(self):
        self.filled()
        cookie = self.data / "cookie"
        own = cookie.read_bytes()
        cookie.write_bytes(own[:20] + bytes([own[20] ^ 1]) + own[21:])
        self.refused_untouched([str(cookie), "checksum"])
        cookie.write_bytes(b"not a cookie at all")
        self.refused_untouched([str(cookie), "not a cookie"])
        cookie.unlink()
        self.refused_untouched([str(self.data), "no cookie"])
        cookie.write_bytes(own)
        self.everything_is_there()

    def test_a_directory_of_something_else_is_left_alone(self):
        self.data.mkdir()
        (self.data / "diary").write_text("dear diary")
        self.serve_fails([str(self.data), "diary"])
        self.assertEqual((self.data / "diary").read_text(), "dear diary")
        self.assertEqual({path.name for path in self.data.iterdir()} - {"lock"}, {"diary"})

    def test_a_file_in_the_way_is_named(self):
        self.data.write_text("I was here first")
        self.serve_fails([str(self.data)])
        self.assertEqual(self.data.read_text(), "I was here first")

    def test_a_newer_format_is_refused(self):
        self.filled()
        whole, header = (0, -4, -4), (0, 60, 60)
        for name, raw, checksum in (("cookie", struct.pack("<I", 2), whole),
                                    ("metadata.log", struct.pack("<H", 2), header),
                                    ("shard-0.synced", struct.pack("<H", 2), header),
                                    ("shard-0.clean", struct.pack("<H", 2), whole)):
            path = self.data / name
            own = path.read_bytes()
            self.patched(path, 8, raw, checksum)
            self.refused_untouched([str(path), "format", "2", "start the version"],
                                   counted=name.startswith("shard"))
            path.write_bytes(own)
        self.everything_is_there()

    def test_a_newer_segment_takes_its_partition_offline_by_name(self):
        self.filled()
        segment = next(self.data.glob("*-0/*.log"))
        own = segment.read_bytes()
        self.patched(segment, 8, struct.pack("<H", 2), checksum=(0, 60, 60))
        for mark in self.data.glob("shard-*.clean"):
            mark.unlink()  # so that the segment is read at the start
        broker = self.server("--shards", "1")
        where = ("--bootstrap", broker.bootstrap, "--timeout", "2s")
        self.assertNotEqual(pyralog("consume", "t", "--from", "beginning", "--until-end",
                                    *where).code, 0)
        self.good("topic", "create", "other", *where)
        self.good("produce", "other", *where, given=b"still served\n")
        self.end(broker)
        said = broker.log_tail()
        self.assertIn("broker.partition_offline", said)
        self.assertIn("t-0", said)
        self.assertIn("has format version 2", said)
        self.assertEqual(segment.read_bytes()[64:], own[64:], "no record was touched")
        self.refused("log", "verify", self.data, says=[])
        segment.write_bytes(own)
        self.everything_is_there()


if __name__ == "__main__":
    command.main()
