#!/usr/bin/env python3
"""How long keyway takes from exec to the first byte that it serves, with 8 nodes and with 1000.

    benches/start.py                     # builds a release, 20 starts each
    benches/start.py --keyway PATH       # of a built keyway
    benches/start.py --starts 50

A client connects in a loop from the moment of the exec on, asks as soon as it is let in, and stops the clock at the first byte of the
node's answer. The time of the fork is part of it. Median, and the longest. Loopback only. Needs Python 3 and, without --keyway, cargo.
"""

import argparse
import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
REQUEST = b"GET /k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENCE_SECONDS = 10
NODES = (8, 1000)


def node():
    """One socket that is every node: what counts is how many keyway knows."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve():
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=answer, args=(stream,), daemon=True).start()

    def answer(stream):
        with stream:
            while stream.recv(65536):
                stream.sendall(ANSWER)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def write_files(folder, port, node_port, nodes, admin_port=None):
    with open(os.path.join(folder, "keyway.yaml"), "w") as file:
        file.write(
            f'listeners: [{{ name: app, address: "127.0.0.1:{port}" }}]\n'
            f'admin: {{ address: "127.0.0.1:{admin_port or free_port()}" }}\n'
            "pre_drain: 0s\ndrain_timeout: 0s\n"
            "routes: [{ name: r, match: {}, key: path, cluster: c }]\n"
            "clusters: { c: { probe: { when: off } } }\n")
    with open(os.path.join(folder, "topology.yaml"), "w") as file:
        file.write("version: 1\nclusters:\n  c:\n    shards:\n")
        for shard in range(nodes // 2):
            file.write(f"      - name: s{shard}\n        nodes:\n")
            for letter in "ab":
                file.write(f'          - {{ id: n{shard}{letter}, address: "127.0.0.1:{node_port}" }}\n')


def first_byte(port, deadline):
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as stream:
                stream.sendall(REQUEST)
                if stream.recv(1):
                    return time.monotonic()
        except ConnectionRefusedError:
            pass
    raise SystemExit("no byte was served in time")


def start(binary, node_port, nodes):
    """Milliseconds from the exec to the first byte."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        write_files(folder, port, node_port, nodes)
        command = [binary, "run", "--config", os.path.join(folder, "keyway.yaml")]
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return (first_byte(port, began + PATIENCE_SECONDS) - began) * 1000
        finally:
            process.kill()
            process.wait()


def release():
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "release", "keyway")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keyway")
    parser.add_argument("--starts", type=int, default=20)
    options = parser.parse_args()
    binary = options.keyway or release()
    node_port = node()
    print("nodes  median ms  longest ms")
    for nodes in NODES:
        took = [start(binary, node_port, nodes) for _ in range(options.starts)]
        print(f"{nodes:5}  {statistics.median(took):9.1f}  {max(took):10.1f}")


if __name__ == "__main__":
    main()
