#!/usr/bin/env python3
"""Writes the C++ source that holds the texts of licences: licence_texts.py OUT KEY=PACKAGE=FILE[@NAME]…

FILE is read whole; with @NAME only the paragraph "License: NAME" of a Debian copyright file that
holds its text, for files that list thousands of sources before it.
"""

import sys


def paragraph(text, name):
    """The text of the stand-alone paragraph of a licence, as the format has it: indented, "." = empty."""
    for part in text.split("\n\n"):
        first, *rest = part.strip("\n").split("\n")
        if first == f"License: {name}" and rest:
            return "".join(("" if line.strip() == "." else line.removeprefix(" ")) + "\n" for line in rest)
    raise SystemExit(f"licence_texts: no paragraph with the text of {name}")


def literal(text):
    """Adjacent C++ string literals, one a line, with everything but plain ASCII escaped."""
    def escaped(byte):
        char = chr(byte)
        if char in '"\\':
            return "\\" + char
        return char if 32 <= byte < 127 else f"\\{byte:03o}"
    lines = text.encode().split(b"\n")
    return "\n".join('    "' + "".join(map(escaped, line)) + '\\n"' for line in lines)


def main():
    out, sources = sys.argv[1], sys.argv[2:]
    texts = []
    for source in sources:
        key, package, path = source.split("=", 2)
        path, _, name = path.partition("@")
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        texts.append((key, package, paragraph(text, name) if name else text.rstrip("\n")))
    with open(out, "w", encoding="ascii") as file:
        file.write('// Made by licence_texts.py.\n#include "cli/licences.h"\n\nnamespace pyralog::cli {\n\n'
                   "LicenceText licence_text(std::string_view key) {\n")
        for key, package, text in texts:
            file.write(f'  if (key == "{key}") return {{"{package}",\n{literal(text)}}};\n')
        file.write("  return {};\n}\n\n}  // namespace pyralog::cli\n")


if __name__ == "__main__":
    main()
