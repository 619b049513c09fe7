#!/usr/bin/env python3
"""One binary runs each role, as its TOML file says: an obelisk holds no partition and gives ids, a pyramid holds
partitions and gives none; a file with a key or a role that is not known is refused."""

import subprocess

from cluster import Cluster, until
from issuers import NOT_CONTROLLER, Issuer
from rounds import check

ROLES = {1: "all", 2: "pyramid", 3: "obelisk"}


def refused(cluster, text, names):
    """`serve` on a file that is not sound ends at once and says what is wrong."""
    path = cluster.folder / "wrong.toml"
    path.write_text(text)
    done = subprocess.run([cluster.nodes[1].binary, "serve", "--config", str(path), "--data-dir",
                           str(cluster.folder / "wrong")], capture_output=True, text=True, timeout=30, check=False)
    check(done.returncode != 0 and names in done.stderr, f"{text!r}: ended with {done.returncode}: {done.stderr}")
    check(not (cluster.folder / "wrong").exists(), f"{text!r}: a data directory was made all the same")


def main():
    cluster = Cluster()
    for number, role in ROLES.items():
        path = cluster.folder / f"{role}.toml"
        path.write_text(f'[node]\nrole = "{role}"\n')
        cluster.nodes[number].words += ["--config", str(path)]
    with cluster:
        cluster.await_whole()
        told = {n["node_id"]: n["role"] for n in cluster.nodes[1].status()["cluster"]["nodes"]}
        check(told == ROLES, f"the cluster tells the roles {told}")
        cluster.create("orders", partitions=6, replicas=2)
        held = {n for _, _, _, replicas, _ in cluster.partitions("orders").values() for n in replicas}
        check(held == {1, 2}, f"partitions are on nodes {held}")
        for number, role in ROLES.items():
            with Issuer(cluster.nodes[number].kafka) as issuer:
                if role == "pyramid":
                    check(issuer.ids(1)[0] == NOT_CONTROLLER, "a pyramid gives ids")
                    check(issuer.counter("c")[0] == NOT_CONTROLLER, "a pyramid gives values")
                else:
                    until(lambda asked=issuer: asked.ids(1)[0] == 0, f"node {number} gives ids", 10)
                    until(lambda asked=issuer: asked.counter("c")[0] == 0, f"node {number} gives values", 10)
        # Whoever is asked first, a client comes to one that gives.
        for _ in range(6):
            done = subprocess.run([cluster.nodes[1].binary, "ids", "next", "--server", cluster.nodes[2].kafka],
                                  capture_output=True, text=True, check=False)
            check(done.returncode == 0 and done.stdout.strip().isdigit(), f"ids next: {done.stderr}")
        done = subprocess.run([cluster.nodes[1].binary, "counter", "next", "invoices", "--strict", "--count", "3",
                               "--json", "--server", cluster.nodes[3].kafka],
                              capture_output=True, text=True, check=False)
        check(done.stdout == '["1","2","3"]\n', f"counter next: {done.stdout}{done.stderr}")
        # A node that holds partitions does not become an obelisk.
        cluster.kill(1)
        node = cluster.nodes[1]
        node.words[-1] = str(cluster.folder / "obelisk.toml")
        node.spawn()
        until(lambda: node.process.poll() is not None, "a node with partitions is refused as an obelisk", 20)
        check("drain it first" in node.tail(), node.tail())
        node.words[-1] = str(cluster.folder / "all.toml")
        cluster.restart(1)
        cluster.await_whole(["orders"])
        refused(cluster, '[node]\nrole = "pharaoh"\n', "node.role")
        refused(cluster, '[node]\nroles = "all"\n', "node.roles")
        refused(cluster, '[obelisk]\ncounter_file_size = "1TB"\n', "obelisk")
    print("each role runs from its file; files with unknown keys or roles are refused")


if __name__ == "__main__":
    main()
