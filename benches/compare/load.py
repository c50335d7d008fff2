"""The load on a proxy: what clients send, and the process that sends it. HTTP/1.1 comes from
tools/load.c, HTTP/2 from h2load; both are only believed when every response was whole and 200."""

import http.client
import json
import re
import select
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from processes import Workspace

TIMEOUT_SECONDS = 60
# h2load prepares every path at its start.
H2LOAD_KEYS = 1000
CHECKED_KEYS = 200


class LoadError(Exception):
    """A request did not get the response that it should."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What clients send in one burst."""

    client: str = "http1"
    """The protocol of clients, http1 or http2."""
    node: str = "http1"
    """The protocol that the proxy speaks to nodes."""
    connections: int = 64
    requests: int = 8000
    seconds: float = 0
    """How long to send, in place of a number of requests; 0: not used."""
    rate: float = 0
    """Requests a second in the open loop; 0: closed loop."""
    in_flight: int = 0
    """How many requests at most at a time; 0: as many as fit the connections."""
    pipeline: int = 1
    """How many requests at a time on a connection, pipelined or as HTTP/2 streams."""
    size: int = 1024
    """Bytes of a response's body."""
    body: int = 0
    """Bytes of a request's body; 0: GET."""
    chunked_down: bool = False
    chunked_up: bool = False
    per_request: bool = False
    """A new connection for each request."""
    prefix: str = "/"
    """What paths start with."""


@dataclass(frozen=True)
class Result:
    requests: int
    seconds: float
    latencies_us: dict[str, float]
    """Open loop: p50_us, p99_us and p999_us."""


class Http1Client:
    """tools/load.c. It opens its connections before it says that it is ready."""

    def __init__(self, workspace: Workspace, tool: Path, cores: set[int], port: int, load: Load):
        self._workspace = workspace
        command = [str(tool), "--port", str(port), "--timeout", str(TIMEOUT_SECONDS)]
        for option, value in asdict(load).items():
            if option in ("client", "node") or value is False:
                continue
            command.append(f"--{option.replace('_', '-')}")
            if value is not True:
                command.append(str(value))
        self._process = workspace.start(
            "load",
            command,
            cores,
            workspace.new_folder("load"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def await_ready(self) -> None:
        self._read_line()

    def run(self, each_second: Callable[[], None] | None = None) -> Result:
        """Sends the requests; `each_second` is called meanwhile."""
        self._process.popen.stdin.write(b"go\n")
        self._process.popen.stdin.flush()
        next_call = time.monotonic() + 0.5
        while each_second and not self._readable(next_call - time.monotonic()):
            each_second()
            next_call += 1
        counts = json.loads(self._read_line())
        return Result(counts.pop("requests"), counts.pop("seconds"), counts)

    def close(self) -> None:
        for stream in (self._process.popen.stdin, self._process.popen.stdout):
            stream.close()
        self._workspace.end(self._process)

    def _readable(self, seconds: float) -> bool:
        stdout = self._process.popen.stdout
        return bool(select.select([stdout], [], [], max(seconds, 0))[0])

    def _read_line(self) -> bytes:
        # The tool gives up by itself; this is only in case that it hangs.
        if not self._readable(TIMEOUT_SECONDS + 10):
            raise LoadError("load: says nothing")
        line = self._process.popen.stdout.readline()
        if not line:
            self._process.popen.wait()
            raise LoadError(self._process.log_tail().strip())
        return line


class Http2Client:
    """h2load. It opens its connections when it runs: few, so that they cost next to nothing."""

    def __init__(self, workspace: Workspace, cores: set[int], port: int, load: Load):
        self._workspace = workspace
        self._cores = cores
        self._load = load
        self._folder = workspace.new_folder("h2load")
        self._paths = self._folder / "paths"
        self._paths.write_text(
            "".join(
                f"http://127.0.0.1:{port}{load.prefix}key-{key:06}?size={load.size}&body=0\n"
                for key in range(H2LOAD_KEYS)
            )
        )

    def await_ready(self) -> None:
        pass

    def run(self, _: Callable[[], None] | None = None) -> Result:
        load = self._load
        process = self._workspace.start(
            "h2load",
            [
                "h2load",
                f"--requests={load.requests}",
                f"--clients={load.connections}",
                f"--max-concurrent-streams={load.pipeline}",
                f"--input-file={self._paths}",
                f"--connection-inactivity-timeout={TIMEOUT_SECONDS}",
            ],
            self._cores,
            self._folder,
        )
        try:
            process.popen.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise LoadError(f"h2load: gave up after {TIMEOUT_SECONDS} seconds") from None
        finally:
            self._workspace.end(process)
        return self._check(process.log.read_text())

    def close(self) -> None:
        pass

    def _check(self, report: str) -> Result:
        succeeded = _number(r"(\d+) 2xx", report)
        body_bytes = _number(r"\((\d+)\) data", report)
        finished = re.search(r"finished in ([\d.]+)(us|ms|s)", report)
        expected = self._load.requests
        if not finished or succeeded != expected or body_bytes != expected * self._load.size:
            raise LoadError(
                f"h2load: expected {expected} times status 200 and {self._load.size} bytes, "
                f"found it {succeeded} times and {body_bytes} bytes in all:\n{report.strip()}"
            )
        unit = {"us": 1e-6, "ms": 1e-3, "s": 1}[finished[2]]
        return Result(succeeded, float(finished[1]) * unit, {})


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def check_placement(port: int, load: Load, shards_min: int) -> None:
    """Checks that a key's requests go to one node, and different keys to different nodes."""
    nodes: dict[int, str] = {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        for key in [*range(CHECKED_KEYS)] * 2:
            connection.request("GET", f"{load.prefix}key-{key:06}?size=1")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise LoadError(f"expected status 200, found {response.status}")
            node = response.headers["X-Node"]
            if nodes.setdefault(key, node) != node:
                raise LoadError(f"key {key} went to {nodes[key]} and to {node}")
    except (OSError, http.client.HTTPException) as error:
        raise LoadError(f"a request to port {port} failed: {error!r}") from error
    finally:
        connection.close()
    if len(set(nodes.values())) < shards_min:
        raise LoadError(
            f"{CHECKED_KEYS} keys went to no more than {len(set(nodes.values()))} nodes"
        )
