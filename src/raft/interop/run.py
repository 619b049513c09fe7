"""Replays the interaction scripts of etcd's Raft with our members: run.py CACHE REPLAY.

CACHE is a folder for Go modules, REPLAY the C++ side (a path, or a name on PATH). The Go client
fetches the module that go.mod names and go.sum vouches for, unless CACHE has it. Exit code 77 means
skipped; with CI=true that is a failure.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def skip(reason):
    print(f"raft_etcd_interop: skipped: {reason}")
    sys.exit(1 if os.environ.get("CI") == "true" else 77)


def fetch(cache):
    """The folder of the module, fetched and verified by the Go client."""
    if not shutil.which("go"):
        skip("needs Go (go); run scripts/setup.sh test")
    env = dict(os.environ, GOMODCACHE=str(cache), GOFLAGS="-modcacherw", GOWORK="off")
    # The client may write what it finds out into both files.
    with tempfile.TemporaryDirectory() as folder:
        for name in ("go.mod", "go.sum"):
            shutil.copy(HERE / name, folder)
        try:
            done = subprocess.run(["go", "mod", "download", "-json"], cwd=folder, env=env, timeout=200,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        except subprocess.TimeoutExpired:
            skip("the Go client has not fetched the module in 200 s")
    error = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode != 0 or not done.stdout.strip():
        said = (done.stdout.decode("utf-8", "replace") + error).strip()
        if "checksum mismatch" in said:
            print(said)
            sys.exit(1)
        skip("the Go client cannot have the module: " + (said.splitlines() or ["it says nothing"])[-1])
    return pathlib.Path(json.loads(done.stdout)["Dir"])


def main(cache, replay):
    program = shutil.which(replay)
    if program is None:
        print(f"raft_etcd_interop: no program {replay}; build the target raft_interop")
        sys.exit(1)
    scripts = fetch(pathlib.Path(cache).resolve()) / "testdata"
    sys.exit(subprocess.run([program, scripts, HERE / "README.md"], timeout=90, check=False).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
