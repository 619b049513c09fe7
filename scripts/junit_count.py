#!/usr/bin/env python3
"""Prints `passed failed skipped` of a ctest result file; names the last two on standard error."""

import sys
import xml.etree.ElementTree as ET


def main():
    passed = failed = skipped = 0
    for case in ET.parse(sys.argv[1]).getroot().iter("testcase"):
        status = case.get("status", "run")
        seconds = float(case.get("time", "0"))
        reason = next((e.get("message", "") for e in case if e.tag in ("skipped", "failure")), "")
        if case.find("failure") is not None or status == "fail":
            failed += 1
            print(f"failed: {case.get('name')} after {seconds:.1f} s {reason}", file=sys.stderr)
        elif case.find("skipped") is not None or status in ("notrun", "disabled"):
            skipped += 1
            out = (case.findtext("system-out") or "").strip().splitlines()
            said = next((l for l in out if "skip" in l.lower()), out[-1] if out else reason)
            print(f"skipped: {case.get('name')}: {said}", file=sys.stderr)
        else:
            passed += 1
    print(passed, failed, skipped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
