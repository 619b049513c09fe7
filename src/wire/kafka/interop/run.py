"""Compares the codec with the Java client's: run.py JARS WORK COMPARE FIELDS.

JARS is a folder with kafka-clients and slf4j jars, WORK a scratch folder, COMPARE the C++ side,
FIELDS the generated field tables. Exit code 77 means skipped; with CI=true that is a failure.
"""

import glob
import os
import shutil
import subprocess
import sys


def skip(reason):
    print(f"wire_kafka_java_interop: skipped: {reason}")
    sys.exit(1 if os.environ.get("CI") == "true" else 77)


def main(jars, work, compare, fields):
    if not (shutil.which("java") and shutil.which("javac")):
        skip("needs a JDK (java and javac)")
    path = glob.glob(os.path.join(jars, "kafka-clients-*.jar"))
    if not path:
        skip(f"needs kafka-clients in {jars}; run tests/clients/setup.sh")
    path += glob.glob(os.path.join(jars, "slf4j-*.jar"))
    # The record schemas of __consumer_offsets ship with the Kafka broker only.
    path += glob.glob(os.path.join(jars, "..", "kafka", "kafka-group-coordinator-[a0-9]*.jar"))
    os.makedirs(work, exist_ok=True)
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "WireDump.java")
    dump = os.path.join(work, "dump.txt")
    classes = os.pathsep.join(path)
    subprocess.run(["javac", "-cp", classes, "-d", work, source], check=True, timeout=120)
    subprocess.run(["java", "-Xmx256m", "-cp", classes + os.pathsep + work, "WireDump", fields,
                    dump], check=True, timeout=120)
    sys.exit(subprocess.run([compare, fields, dump], timeout=120, check=False).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
