#!/usr/bin/env python3
"""The table of licences against what the build includes and links: nothing is missing, nothing is
too much."""

import os
import pathlib
import re
import subprocess

import command
from command import BINARY, CommandTest

BUILD = pathlib.Path(BINARY).resolve().parent


def ninja(*words):
    return subprocess.run(["ninja", "-C", BUILD, "-t", *words], capture_output=True, text=True,
                          check=True, timeout=120).stdout


def included_headers():
    """The headers outside of the repository that the objects of the binary were compiled with."""
    objects = {name for name in ninja("inputs", "pyralog").split() if name.endswith(".o")}
    assert len(objects) > 50, f"{BUILD}: only {len(objects)} objects make the binary"
    found, wanted, seen = set(), False, set()
    for line in ninja("deps").splitlines():
        if line and not line.startswith(" "):
            name = line.split(":")[0]
            wanted = name in objects
            if wanted:
                seen.add(name)
        elif wanted and line.strip().startswith("/"):
            found.add(os.path.realpath(line.strip()))
    assert seen == objects, f"no dependencies are known of {sorted(objects - seen)[:5]}"
    here = str(command.REPOSITORY.resolve()) + "/"
    return {path for path in found if not path.startswith((here, str(BUILD) + "/"))}


def packages_of(paths):
    """{package: one of its files}; every file belongs to one."""
    ran = subprocess.run(["dpkg-query", "-S", *sorted(paths)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return {line.split(":")[0]: line.split(": ")[1] for line in ran.stdout.splitlines()}


def linked_libraries():
    """"libzstd" of libzstd.so.1, for each library that the binary names itself."""
    shown = subprocess.run(["readelf", "-d", BINARY], capture_output=True, text=True, check=True).stdout
    return {name.split(".so")[0] for name in re.findall(r"\(NEEDED\).*\[(.+?)\]", shown)}


class Licences(CommandTest):
    def setUp(self):
        super().setUp()
        self.rows = self.good("version", "--licences", "--json").document()["licences"]

    def test_every_library_that_is_linked_is_in_the_table(self):
        # The loader is part of the C library.
        linked = {"libc" if name.startswith("ld-linux") else name for name in linked_libraries()}
        self.assertEqual({name for row in self.rows for name in row["shared"]}, linked)

    def test_every_package_that_is_compiled_in_is_in_the_table(self):
        told = {row["package"] for row in self.rows if row["package"]}
        used = packages_of(included_headers())
        self.assertEqual(told - set(used), set(), "nothing of these is compiled in")
        self.assertEqual({p: used[p] for p in set(used) - told}, {}, "these are not in the table")

    def test_every_row_has_its_text(self):
        text = self.good("version", "--licences").out
        for row in self.rows:
            self.assertGreater(len(row["text"]), 500, row["name"])
            self.assertIn(f"  {row['name']} {row['version']}  {row['licence']}", text)
            self.assertIn(f"\n==== {row['name']} {row['version']}: {row['licence']}", text)
            self.assertIn(row["text"], text)
        self.assertEqual(self.rows[0]["name"], "Pyralog")
        self.assertIn("MIT No Attribution", self.rows[0]["text"])
        short = self.good("version", "--json").document()
        self.assertNotIn("licences", short)


if __name__ == "__main__":
    command.main()
