#!/usr/bin/env python3
"""How long the metrics of 1000 nodes take to scrape, and how much of keyway's CPU time.

    benches/scrape.py                     # builds a release, 40 scrapes each
    benches/scrape.py --keyway PATH       # of a built keyway
    benches/scrape.py --scrapes 100

From the connect to the last byte, with each `metrics.detail` that has series of shards; median, and the longest. Loopback only.
Needs Python 3 and, without --keyway, cargo.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
import urllib.request

import start

NODES = 1000
# One scrape finds the pages of the answer's buffer cold.
WARM_UP = 3


def cpu_ms(process):
    with open(f"/proc/{process}/schedstat") as file:
        return int(file.read().split()[0]) / 1e6


def scrape(admin):
    began = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=start.PATIENCE_SECONDS) as response:
        size = len(response.read())
    return (time.monotonic() - began) * 1000, size


def measure(binary, detail, scrapes):
    with tempfile.TemporaryDirectory() as folder:
        admin = start.free_port()
        # No node is asked: what a series costs does not hang on its value.
        start.write_files(folder, start.free_port(), start.free_port(), NODES, admin)
        with open(os.path.join(folder, "keyway.yaml"), "a") as file:
            file.write(f"metrics: {{ detail: {detail} }}\n")
        process = subprocess.Popen(
            [binary, "run", "--config", os.path.join(folder, "keyway.yaml")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait = [binary, "wait", "--admin", f"127.0.0.1:{admin}", "--timeout", f"{start.PATIENCE_SECONDS}s"]
            subprocess.run(wait, check=True, stdout=subprocess.DEVNULL)
            for _ in range(WARM_UP):
                scrape(admin)
            # The main thread is the one that scrapes are answered by.
            before = cpu_ms(process.pid)
            took = [scrape(admin) for _ in range(scrapes)]
            cpu = (cpu_ms(process.pid) - before) / scrapes
        finally:
            process.kill()
            process.wait()
    times = [it[0] for it in took]
    print(f"{detail:6}  {took[-1][1] / 1e6:4.1f}  {statistics.median(times):9.1f}  {max(times):10.1f}  {cpu:6.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keyway")
    parser.add_argument("--scrapes", type=int, default=40)
    options = parser.parse_args()
    binary = options.keyway or start.release()
    print("detail    MB  median ms  longest ms  CPU ms")
    for detail in ("shard", "node"):
        measure(binary, detail, options.scrapes)


if __name__ == "__main__":
    main()
