#!/usr/bin/env python3
"""Installs what is built, as `make install` and as a Debian package, and runs the server from there.

The package goes into this machine's own root with an overlay above it, in a namespace of its own: dpkg, users and
maintainer scripts are real and nothing of it stays. That needs root; the rest does not.

usage: packaging_test.py [--build DIR]
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/release"
TOOLS = ("dpkg-deb", "dpkg-shlibdeps", "cmake", "man")


def run(*words, **more):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=240, check=False, **more)
    if done.returncode:
        raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Served:
    """A server of some installed files, until the `with` block ends."""

    def __init__(self, words, data):
        command = [*map(str, words), "serve", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        if data:
            command += ["--data-dir", str(data)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            self.process.kill()
            raise AssertionError(f"it said {line!r} instead of ready: {self.process.communicate()[1]}")
        self.kafka = re.search(r"kafka[= ](\S+?:\d+)", line).group(1)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        if self.process.returncode:
            raise AssertionError(f"the server ended with {self.process.returncode}")

    def round_trip(self, binary):
        run(binary, "produce", "events", "--bootstrap", self.kafka, input="hello\n")
        said = run(binary, "consume", "events", "--from", "beginning", "--until-end", "--bootstrap", self.kafka)
        assert said.splitlines()[-1] == "hello", said


class Packaging(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tmp = pathlib.Path(tempfile.mkdtemp(prefix="pyralog-packaging-"))
        cls.package = pathlib.Path(run(ROOT / "packaging/deb/build.sh", BUILD, cls.tmp / "deb").strip())

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.tmp, ignore_errors=True)

    def test_install_puts_everything_below_its_prefix(self):
        stage = self.tmp / "stage"
        run("cmake", "--install", BUILD, "--component", "pyralog", "--prefix", "/opt/log",
            env={**os.environ, "DESTDIR": str(stage)})
        prefix = stage / "opt/log"
        self.assertEqual([p.name for p in stage.iterdir()], ["opt"])
        for name in ("bin/pyralog", "lib/systemd/system/pyralog.service", "share/man/man1/pyralog.1",
                     "share/bash-completion/completions/pyralog", "share/zsh/vendor-completions/_pyralog",
                     "share/fish/vendor_completions.d/pyralog.fish", "share/doc/pyralog/examples/pyralog.toml"):
            self.assertGreater((prefix / name).stat().st_size, 100, name)
        unit = (prefix / "lib/systemd/system/pyralog.service").read_text()
        self.assertIn("ExecStart=/opt/log/bin/pyralog serve --config", unit)
        self.assertNotRegex(unit, r"@\w+@")
        run("bash", "-n", prefix / "share/bash-completion/completions/pyralog")
        page = run("man", "--warnings", "-l", prefix / "share/man/man1/pyralog.1", env={**os.environ, "MANWIDTH": "100"})
        self.assertIn("serve", page)
        with Served([prefix / "bin/pyralog"], self.tmp / "data-install") as server:
            server.round_trip(prefix / "bin/pyralog")

    def test_the_unit_is_sound(self):
        if not shutil.which("systemd-analyze"):
            self.cannot("needs systemd-analyze (Debian's systemd)")
        root = self.unpacked()
        unit = root / "usr/lib/systemd/system/pyralog.service"
        text = unit.read_text()
        for line in ("User=pyralog", "LimitNOFILE=1048576", "StateDirectory=pyralog", "ProtectSystem=strict"):
            self.assertIn(line, text.splitlines())
        # The paths that it names are the package's own, not this machine's.
        here = self.tmp / "pyralog.service"
        here.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", text))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(here)], capture_output=True, text=True,
                              check=False)
        mine = [line for line in done.stderr.splitlines() if "pyralog.service" in line]
        self.assertEqual(mine, [])

    def unpacked(self):
        root = self.tmp / "unpacked"
        if not root.exists():
            run("dpkg-deb", "-x", self.package, root)
        return root

    def field(self, name):
        return run("dpkg-deb", "-f", self.package, name).strip()

    def test_the_package_depends_on_just_what_the_binary_links(self):
        linked = set(re.findall(r"NEEDED\)\s+Shared library: \[(.+?)\]",
                                run("readelf", "-d", self.unpacked() / "usr/bin/pyralog")))
        depends = {re.split(r"[ (:]", each)[0] for each in self.field("Depends").split(", ")}
        owners = set()
        for library in linked:
            path = re.search(rf"{re.escape(library)} .*=> (\S+)", run("/sbin/ldconfig", "-p")).group(1)
            found = run("sh", "-c", f"dpkg -S {path} || dpkg -S $(realpath {path}) || dpkg -S /usr{path}")
            owners.add(found.split(":")[0])
        self.assertEqual(depends - {"adduser"}, owners)

    def test_the_package_is_tidy(self):
        listing = run("dpkg-deb", "-c", self.package)
        for line in listing.splitlines():
            mode, owner, name = line.split()[0], line.split()[1], line.split(None, 5)[5]
            self.assertEqual(owner, "root/root", line)
            self.assertNotIn("w", mode[4:], line)
            self.assertRegex(name, r"^\./($|etc/($|pyralog/)|usr/)", line)
        control = self.tmp / "control"
        run("dpkg-deb", "-e", self.package, control)
        self.assertEqual((control / "conffiles").read_text(), "/etc/pyralog/pyralog.toml\n")
        for script in ("postinst", "prerm", "postrm"):
            run("sh", "-n", control / script)
            self.assertIn("set -e", (control / script).read_text())
        run("md5sum", "--check", "--quiet", control / "md5sums", cwd=self.unpacked())
        self.assertIn("MIT No Attribution", (self.unpacked() / "usr/share/doc/pyralog/copyright").read_text())
        if shutil.which("lintian"):
            run("lintian", "--fail-on", "error", self.package)

    def test_two_builds_give_the_same_bytes(self):
        again = pathlib.Path(run(ROOT / "packaging/deb/build.sh", BUILD, self.tmp / "again").strip())
        self.assertEqual(again.read_bytes(), self.package.read_bytes())

    def test_the_server_runs_from_what_is_unpacked(self):
        root = self.unpacked()
        binary = root / "usr/bin/pyralog"
        run(binary, "config", "check", "--config", root / "etc/pyralog/pyralog.toml")
        with Served([binary], self.tmp / "data-unpacked") as server:
            server.round_trip(binary)

    def test_install_upgrade_remove_and_purge(self):
        if os.geteuid() != 0:
            self.cannot("needs root, for a root of its own")
        script = pathlib.Path(__file__).with_name("in_a_root.sh")
        done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", script, self.package],
                              capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 77:
            self.cannot(done.stderr.strip())
        self.assertEqual((done.returncode, done.stdout.strip().splitlines()[-1]), (0, "packaging: all well"),
                         done.stdout + done.stderr)

    def cannot(self, why):
        """Skipped; with CI=true that is a failure."""
        self.fail(why) if os.environ.get("CI") == "true" else self.skipTest(why)


if __name__ == "__main__":
    if "--build" in sys.argv:
        at = sys.argv.index("--build")
        BUILD = pathlib.Path(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        print(f"packaging: skipped, needs {', '.join(missing)}")
        sys.exit(1 if os.environ.get("CI") == "true" else 77)
    unittest.main(verbosity=2)
