#!/usr/bin/env python3
"""What thousands of reloads under load leave behind: memory, CPU time a request, old states, lost requests.

    benches/reloads.py                       # builds a release; 10 000 reloads, about half an hour
    benches/reloads.py --keyway PATH         # of a built keyway
    benches/reloads.py --reloads 500         # fewer

Shards come and go with every reload, so that each builds a placement and closes and opens connections, while clients ask 2000 times a
second. One reload follows the other; each takes the 100 ms that files must be at rest. Every answer is checked: its status, that it is
the one for its key, and that it came from a shard that owns the key under one of the topologies. Memory is the resident set, CPU time
the kernel's account of all threads, memory in the first and in the last tenth of the reloads. CPU time hangs on what else the machine
does, so that what was reloaded is compared with a fresh keyway under the same load in the same seconds, without reloads and with some of
both. Exits with 1 when a request or a reload was lost, an old state is held, or a ratio is above 1.05. Loopback only. Needs Python 3 and,
without --keyway, cargo.
"""

import argparse
import glob
import http.client
import json
import multiprocessing
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import start

SHARDS = (4, 3, 2, 3)
KEYS = [f"key-{it}" for it in range(200)]
CLIENTS = 4
REQUESTS_PER_SECOND = 2000
QUIET_SECONDS = 30
RELOADS_OF_BOTH = 150
PATIENCE_SECONDS = 10
RATIO_MAX = 1.05
APPLIED = 'config_reloads_total{outcome="applied"}'
UNITS = {"MiB": 1 << 20, "us/request": 1e-6}


# --- nodes ---

def serve(listeners):
    """All nodes in one process; each says its name and what it was asked."""
    waiting = selectors.DefaultSelector()
    for name, listener in listeners.items():
        waiting.register(listener, selectors.EVENT_READ, name)
    while True:
        for key, _ in waiting.select():
            if key.fileobj in listeners.values():
                stream, _ = key.fileobj.accept()
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting.register(stream, selectors.EVENT_READ, key.data)
            elif not answer(key.fileobj, key.data):
                waiting.unregister(key.fileobj)
                key.fileobj.close()


def answer(stream, name):
    """keyway writes a head at once, and on loopback it comes as it was written."""
    try:
        head = stream.recv(65536)
        if head:
            body = f"{name} {head.split(b' ', 2)[1].decode()}".encode()
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return bool(head)
    except OSError:
        return False


# --- clients ---

def ask(port, owners, first, asked, lost):
    """Asks for one key after the other on one connection, at an even pace, for ever."""
    pace = CLIENTS / REQUESTS_PER_SECOND
    stream, due, at = None, time.monotonic(), first
    while True:
        key = KEYS[at % len(KEYS)]
        try:
            if stream is None:
                stream = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.sendall(f"GET /{key} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            check(reply(stream), key, owners[key])
        except (OSError, ValueError) as error:
            print(f"lost: {key}: {error}", file=sys.stderr)
            lost.value += 1
            stream = None
        asked.value += 1
        at += 1
        due += pace
        time.sleep(max(0, due - time.monotonic()))


def reply(stream):
    text = b""
    while True:
        head, end, body = text.partition(b"\r\n\r\n")
        lengths = [it for it in head.lower().split(b"\r\n") if it.startswith(b"content-length:")]
        if end and lengths and len(body) >= int(lengths[0].split(b":")[1]):
            return head, body
        piece = stream.recv(65536)
        if not piece:
            raise ValueError(f"the connection ended after {text!r}")
        text += piece


def check(answered, key, owners):
    head, body = answered
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError(head.split(b"\r\n")[0].decode())
    node, path = body.decode().split(" ")
    if path != f"/{key}" or node not in owners:
        raise ValueError(f"answered by {body}, owned by {sorted(owners)}")


# --- keyway ---

def replace(path, text):
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


def topology(ports, shards, version):
    lines = [f"version: 1  # {version}", "clusters:", "  c:", "    shards:"]
    for name, port in list(ports.items())[:shards]:
        lines += [f"      - name: {name}", f'        nodes: [{{ id: {name}, address: "127.0.0.1:{port}" }}]']
    return "\n".join(lines) + "\n"


def find_owners(binary, folder, ports):
    """Who owns each key under any of the topologies, as the command says that operators ask."""
    owners = {key: set() for key in KEYS}
    path = os.path.join(folder, "asked.yaml")
    for shards in set(SHARDS):
        replace(path, topology(ports, shards, 0))
        command = [binary, "ring", "locate", "--cluster", "c", "--output", "json", "--topology", path, *KEYS]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        for key, line in zip(KEYS, lines, strict=True):
            owners[key].add(json.loads(line)["candidates"][0])
    return owners


class Keyway:
    def __init__(self, binary, folder, ports):
        self.port, self.admin, self.ports = start.free_port(), start.free_port(), ports
        self.topology = os.path.join(folder, "topology.yaml")
        sidecar = os.path.join(folder, "keyway.yaml")
        replace(self.topology, topology(ports, SHARDS[0], 0))
        replace(sidecar,
                f'listeners: [{{ name: app, address: "127.0.0.1:{self.port}" }}]\n'
                f'admin: {{ address: "127.0.0.1:{self.admin}" }}\n'
                "pre_drain: 0s\ndrain_timeout: 0s\n"
                'routes: [{ name: r, match: { path: "/{key}" }, key: "path:key", cluster: c }]\n'
                "clusters: { c: { probe: { when: off } } }\n")
        self.process = subprocess.Popen(
            [binary, "run", "--config", sidecar], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run([binary, "wait", "--admin", f"127.0.0.1:{self.admin}", "--timeout", "10s"], check=True)

    def call(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metric(self, series):
        lines = self.call("GET", "/metrics")[1].splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(f"keyway_{series} ")]
        return float(values[0]) if values else 0.0

    def reload(self, count):
        replace(self.topology, topology(self.ports, SHARDS[count % len(SHARDS)], count))
        status, text = self.call("POST", "/v1/reload")
        if status != 200:
            raise SystemExit(f"reload {count}: {status} {text}")

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu(self):
        """Seconds of all threads; none ends while keyway serves."""
        nanoseconds = 0
        for path in glob.glob(f"/proc/{self.process.pid}/task/*/schedstat"):
            with open(path) as file:
                nanoseconds += int(file.read().split()[0])
        return nanoseconds / 1e9


# --- the run ---

class Load:
    """Clients of one keyway."""

    def __init__(self, keyway, owners):
        self.keyway = keyway
        self.counts = [(multiprocessing.Value("q", 0, lock=False), multiprocessing.Value("q", 0, lock=False)) for _ in range(CLIENTS)]
        jobs = [(keyway.port, owners, 50 * it, *counts) for it, counts in enumerate(self.counts)]
        self.clients = [child(ask, *arguments) for arguments in jobs]

    def asked(self):
        return sum(asked.value for asked, _ in self.counts)

    def lost(self):
        return sum(lost.value for _, lost in self.counts)

    def end(self):
        for client in self.clients:
            client.kill()
        self.keyway.process.kill()
        self.keyway.process.wait()


def child(target, *arguments):
    process = multiprocessing.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def reload(load, reloads):
    """The resident set in the first and in the last tenth."""
    sizes = []
    for count in range(1, reloads + 1):
        load.keyway.reload(count)
        sizes.append(load.keyway.resident())
    tenth = reloads // 10
    return statistics.median(sizes[:tenth]), statistics.median(sizes[-tenth:])


def cpu_beside(fresh, old, meanwhile):
    """CPU time a request of both while the same happens to them."""
    loads = (fresh, old)
    before = [(it.keyway.cpu(), it.asked()) for it in loads]
    meanwhile()
    return [(it.keyway.cpu() - cpu) / (it.asked() - asked) for it, (cpu, asked) in zip(loads, before, strict=True)]


def reload_both(fresh, old):
    for count in range(1, RELOADS_OF_BOTH + 1):
        fresh.keyway.reload(count)
        old.keyway.reload(-count)


def report(title, first, last, unit):
    print(f"{title:22} {first / UNITS[unit]:8.2f} {last / UNITS[unit]:8.2f} {unit:11} ratio {last / first:.3f}", flush=True)
    return last / first


def run(binary, folder, reloads):
    listeners = {f"s{it}": socket.create_server(("127.0.0.1", 0), backlog=128) for it in range(max(SHARDS))}
    ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
    owners = find_owners(binary, folder, ports)
    nodes, loads = child(serve, listeners), []

    def begin(name):
        os.mkdir(os.path.join(folder, name))
        loads.append(Load(Keyway(binary, os.path.join(folder, name), ports), owners))
        time.sleep(2)
        return loads[-1]

    try:
        old = begin("old")
        before = old.keyway.metric(APPLIED)
        print("                          first     last")
        ratios = [report("resident", *reload(old, reloads), "MiB")]
        applied = old.keyway.metric(APPLIED) - before
        held = old.keyway.metric("config_states_held")
        print("                          fresh reloaded")
        fresh = begin("fresh")
        quiet = cpu_beside(fresh, old, lambda: time.sleep(QUIET_SECONDS))
        ratios.append(report("CPU, without reloads", *quiet, "us/request"))
        busy = cpu_beside(fresh, old, lambda: reload_both(fresh, old))
        ratios.append(report("CPU, with reloads", *busy, "us/request"))
        lost = sum(it.lost() for it in loads)
        print(f"{old.asked() + fresh.asked()} requests, {lost} lost; {applied:.0f} reloads applied of {reloads}; {held:.0f} states held")
        return lost == 0 and applied == reloads and held <= 2 and max(ratios) <= RATIO_MAX
    finally:
        for load in loads:
            load.end()
        nodes.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keyway")
    parser.add_argument("--reloads", type=int, default=10_000)
    options = parser.parse_args()
    if options.reloads < 20:
        parser.error("a tenth of fewer than 20 reloads says nothing")
    binary = options.keyway or start.release()
    with tempfile.TemporaryDirectory() as folder:
        return 0 if run(binary, folder, options.reloads) else 1


if __name__ == "__main__":
    sys.exit(main())
