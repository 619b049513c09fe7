"""Makes calls of a program to the operating system fail by rule; tests/faults/io_faults.cc does it."""

import mmap
import os
import pathlib
import shutil
import struct

import server
from rounds import check, need

BYTES, TEXT_AT = 64 * 1024, 8


def library():
    """Named by the environment, else beside the server, else on PATH (as in `make plants`)."""
    if named := os.environ.get("IO_FAULTS_LIBRARY"):
        return named
    beside = pathlib.Path(server.binary()).parent / "io_faults.so"
    return str(beside) if beside.exists() else shutil.which("io_faults.so")


def need_faults(name):
    need(library(), name, "io_faults.so: ninja io_faults")


class Faults:
    """The rules for one program, which is started with `environment`. Rules may change while it runs."""

    def __init__(self, control):
        self.control = pathlib.Path(control)
        self.control.write_bytes(bytes(BYTES))
        self.told = pathlib.Path(f"{control}.log")
        self.told.write_text("")
        with open(self.control, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), BYTES)
        self.number = 0
        self.environment = {"LD_PRELOAD": library(), "IO_FAULTS": str(self.control)}

    def set(self, *rules):
        """Takes effect at the next call that is looked at; none at all lifts every rule."""
        text = "".join(rule + "\n" for rule in rules).encode()
        check(len(text) < BYTES - TEXT_AT, "too many rules")
        self.map[TEXT_AT:] = text + bytes(BYTES - TEXT_AT - len(text))
        self.number += 1
        self.map[:4] = struct.pack("<I", self.number)

    def lines(self, kind):
        """What was done: the words behind `kind` (fault, lost, gone, again), line by line."""
        words = [line.split(" ") for line in self.told.read_text().splitlines()]
        return [each[1:] for each in words if each[0] == kind]

    def let_go(self, root):
        """After the program's end: what a failed sync has lost and what still lay in memory goes, as
        when the system runs short of that. Returns the files."""
        lost = {}
        for words in (line.split(" ") for line in self.told.read_text().splitlines()):
            if words[0] == "lost":
                lost[int(words[1])] = (int(words[2]), int(words[3]))
            elif words[0] == "gone":
                lost.pop(int(words[1]), None)
        went = []
        for path in pathlib.Path(root).rglob("*") if lost else ():
            start, end = lost.pop(path.stat().st_ino, (0, 0))
            end = min(end, path.stat().st_size)
            if path.is_file() and start < end:
                with open(path, "r+b") as file:
                    file.seek(start)
                    file.write(bytes(end - start))
                went.append(path)
        return went
