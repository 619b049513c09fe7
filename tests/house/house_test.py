#!/usr/bin/env python3
"""The rules of the source tree, checked. Each rule has a planted violation that it must catch.

usage: house_test.py --root DIR --build DIR [RULE ...]   checks the tree (all rules by default)
       house_test.py --self-test                         checks the checks
Exit: 0 green, 1 red.
"""

import argparse
import pathlib
import sys
import tempfile

import rules
from tree import Tree


def check(tree, names):
    """[(rule, complaint)] of the named rules."""
    found = []
    for name in names:
        found += [(name, complaint) for complaint in rules.RULES[name](tree)]
    return found


def self_test():
    import planted
    failures = []
    with tempfile.TemporaryDirectory(prefix="pyralog-house-") as tmp:
        good = pathlib.Path(tmp) / "good"
        planted.write(good, planted.GOOD)
        planted.build(good)
        for rule, complaint in check(Tree(good, good / "build"), list(rules.RULES)):
            failures.append(f"{rule}: the good tree is green, it said: {complaint}")
        for number, (rule, what, files, expected) in enumerate(planted.BAD):
            bad = pathlib.Path(tmp) / f"bad{number}"
            planted.write(bad, {**planted.GOOD, **files})
            if rule in planted.NEED_BUILD:
                planted.build(bad)
            said = "\n".join(c for _, c in check(Tree(bad, bad / "build"), [rule]))
            if expected not in said:
                failures.append(f"{rule}: {what}: must say '{expected}', said: {said or 'nothing'}")
        unplanted = set(rules.RULES) - {rule for rule, _, _, _ in planted.BAD}
        failures += [f"{rule}: has no planted violation" for rule in sorted(unplanted)]
    print("\n".join(failures) or f"house_test: all {len(planted.BAD)} planted violations are caught")
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--build")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("rules", nargs="*")
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    if not args.root or not args.build:
        parser.error("--root and --build are needed")
    names = args.rules or list(rules.RULES)
    found = check(Tree(pathlib.Path(args.root).resolve(), pathlib.Path(args.build).resolve()), names)
    for rule, complaint in found:
        print(f"{rule}: {complaint}")
    print(f"house_test: {len(names)} rules, {len(found)} complaints")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
