"""What is compared: each scenario's contenders, their load, and the ratios that are asked for."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import bursts
from load import Load
from peers import Settings, route_prefix
from stage import Proxy, Stage

Burst = Callable[[Stage, Proxy, Load], bursts.Measures]


@dataclass(frozen=True)
class Contender:
    """A proxy under a load."""

    name: str
    peer: str
    load: Load
    settings: Settings = Settings()
    burst: Burst = bursts.cpu
    anew: bool = False
    """Started anew for each burst; otherwise contenders of the same peer and settings share one."""


@dataclass(frozen=True)
class Comparison:
    """A ratio: the measure of one contender by that of another in the same round."""

    subject: str
    baseline: str
    measure: str = "cpu_us"
    target: float | None = None
    """What the ratio should not exceed."""


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    contenders: list[Contender]
    comparisons: list[Comparison]
    proxy_cores: int = 1
    rounds_max: int | None = None
    """For what takes long and varies little."""
    saturation_share: float | None = None
    """The open loop, at this share of the rate at which the slowest contender is saturated."""

    def with_peers(self, peers: set[str]) -> "Scenario":
        """The scenario with keyway and these peers alone."""
        contenders = [each for each in self.contenders if each.peer in peers | {"keyway"}]
        names = {each.name for each in contenders}
        comparisons = [each for each in self.comparisons if {each.subject, each.baseline} <= names]
        return replace(self, contenders=contenders, comparisons=comparisons)

    def with_loads(self, change: Callable[[Load], Load]) -> "Scenario":
        contenders = [replace(each, load=change(each.load)) for each in self.contenders]
        return replace(self, contenders=contenders)


MEASURES = {
    "cpu_us": "CPU µs a request",
    "kib": "KiB a connection",
    "p50_us": "latency p50 µs",
    "p99_us": "latency p99 µs",
    "switches": "context switches a request",
}


def _against_peers(name: str, title: str, load: Load, targets: dict[str, float | None]) -> Scenario:
    """keyway against each of the peers, with targets for the ratios."""
    return Scenario(
        name,
        title,
        contenders=[Contender(peer, peer, load) for peer in ["keyway", *targets]],
        comparisons=[Comparison("keyway", peer, target=targets[peer]) for peer in targets],
    )


def _against_itself(
    name: str,
    title: str,
    contenders: list[Contender],
    baseline: str,
    target: float | None = None,
    proxy_cores: int = 1,
) -> Scenario:
    """Every contender against the baseline, which is one of them."""
    others = [each.name for each in contenders if each.name != baseline]
    return Scenario(
        name,
        title,
        contenders=contenders,
        comparisons=[Comparison(other, baseline, target=target) for other in others],
        proxy_cores=proxy_cores,
    )


def _busy() -> Scenario:
    # More requests at a node than keyway keeps idle connections to it.
    peers, load, two = ["keyway", "haproxy", "nginx"], Load(connections=128), Settings(nodes=2)
    return Scenario(
        "s1_busy",
        "s1 with 128 connections and two nodes",
        contenders=[Contender(peer, peer, load, two) for peer in peers],
        comparisons=[Comparison("keyway", peer) for peer in peers[1:]],
    )


def _open() -> Scenario:
    peers, load = ["haproxy", "nginx"], Load(requests=20_000)
    targets = {("haproxy", "p50_us"): 1.0, ("haproxy", "switches"): 1.0}
    return Scenario(
        "open",
        "open loop at a third of the rate that saturates the slowest",
        contenders=[Contender(peer, peer, load) for peer in ["keyway", *peers]],
        comparisons=[
            Comparison("keyway", peer, measure, targets.get((peer, measure)))
            for peer in peers
            for measure in ("p50_us", "p99_us", "switches")
        ],
        saturation_share=1 / 3,
    )


def _idle() -> Scenario:
    targets = {"haproxy": 1.1, "nginx": None}
    load = Load(connections=10_000, requests=0)
    return Scenario(
        "idle",
        "memory of 10 000 idle connections",
        contenders=[
            Contender(peer, peer, load, burst=bursts.idle, anew=True)
            for peer in ["keyway", *targets]
        ],
        comparisons=[Comparison("keyway", peer, "kib", target) for peer, target in targets.items()],
        rounds_max=4,
    )


def _reload() -> Scenario:
    # Long enough for three reloads.
    load, nodes = Load(seconds=3), Settings(nodes=1000)
    contenders = [
        Contender("no reload", "keyway", load, nodes),
        Contender("a reload a second", "keyway", load, nodes, burst=bursts.reloads),
    ]
    return _against_itself(
        "s1_reload", "s1 with 1000 nodes, and reloads", contenders, "no reload", 1.05
    )


def _log() -> Scenario:
    contenders = [
        Contender("no log", "keyway", Load()),
        Contender("access log", "keyway", Load(), Settings(access_log="json")),
    ]
    return _against_itself("s1_log", "s1 with an access log", contenders, "no log", 1.15)


def _threads() -> Scenario:
    contenders = [
        Contender("1 thread", "keyway", Load()),
        Contender("2 threads", "keyway", Load(), Settings(threads=2)),
    ]
    return _against_itself(
        "s1_threads", "s1 with two data threads", contenders, "1 thread", 1.08, proxy_cores=2
    )


def _connections() -> Scenario:
    return _scale(
        "s1_connections",
        "s1 with more or fewer connections",
        "connections",
        {
            count: (Load(connections=count, in_flight=min(count, 64)), Settings())
            for count in (100, 10, 1000, 10_000)
        },
    )


def _nodes() -> Scenario:
    return _scale(
        "s1_nodes",
        "s1 with more nodes",
        "nodes",
        {count: (Load(), Settings(nodes=count)) for count in (10, 100, 1000)},
    )


def _scale(
    name: str, title: str, what: str, sizes: dict[int, tuple[Load, Settings]]
) -> Scenario:
    """keyway, and HAProxy beside it, each against itself at the first size."""

    def named(peer: str, size: int) -> str:
        return f"{size} {what}" if peer == "keyway" else f"{peer}, {size}"

    peers, (first, *others) = ["keyway", "haproxy"], sizes
    return Scenario(
        name,
        title,
        contenders=[
            Contender(named(peer, size), peer, load, settings)
            for peer in peers
            for size, (load, settings) in sizes.items()
        ],
        comparisons=[
            Comparison(named(peer, size), named(peer, first)) for peer in peers for size in others
        ],
    )


def _routes() -> Scenario:
    # The requests are for the last route.
    contenders = [
        Contender(
            f"{count} route{'s' if count > 1 else ''}",
            "keyway",
            Load(prefix=route_prefix(count - 1)),
            Settings(routes=count),
        )
        for count in (1, 10, 100, 1000)
    ]
    return _against_itself("s1_routes", "s1 with more routes", contenders, "1 route")


_HTTP2 = Load(client="http2", connections=8, pipeline=16)
_MEBIBYTE = 1 << 20

SCENARIOS = [
    _against_peers(
        "s1",
        "GET of 1 KiB, 64 kept connections",
        Load(),
        {"haproxy": 0.72, "nginx": 0.80, "pingora": 0.42, "envoy": 0.23, "relay": 1.35},
    ),
    _against_peers(
        "s2",
        "GET of 64 KiB",
        Load(requests=3000, size=64 << 10),
        {
            "haproxy": None,
            "haproxy-splice": 0.80,
            "nginx": None,
            "nginx-buf72": 0.95,
            "relay": None,
        },
    ),
    _against_peers(
        "s3",
        "POST of 16 KiB",
        Load(requests=4000, body=16 << 10),
        {"haproxy": None, "haproxy-buf80": 0.75, "nginx": None, "nginx-buf72": 0.80, "relay": None},
    ),
    _against_peers(
        "s4",
        "a connection a request",
        Load(requests=4000, per_request=True),
        {"haproxy": 1.00, "nginx": 1.00},
    ),
    _against_peers(
        "s5",
        "HTTP/2 clients, HTTP/1.1 nodes",
        _HTTP2,
        {"haproxy": 1.05, "nginx": 0.60, "pingora": None, "envoy": None},
    ),
    _against_peers(
        "s5h2",
        "HTTP/2 on both sides",
        replace(_HTTP2, node="http2"),
        {"haproxy": 1.00, "envoy": 0.45},
    ),
    _against_peers(
        "chunked_down",
        "GET of 1 MiB in chunks",
        Load(requests=400, size=_MEBIBYTE, chunked_down=True, connections=16),
        {"haproxy": 0.90, "nginx": 0.90},
    ),
    _against_peers(
        "chunked_up",
        "POST of 1 MiB in chunks",
        Load(requests=400, body=_MEBIBYTE, chunked_up=True, connections=16),
        {"haproxy": 0.90, "nginx": 0.90, "nginx-stream": None},
    ),
    _against_peers(
        "pipelined",
        "GET of 1 KiB, 16 connections with 8 requests each",
        Load(connections=16, pipeline=8),
        {"haproxy": None, "nginx": None},
    ),
    _busy(),
    _open(),
    _idle(),
    _reload(),
    _log(),
    _threads(),
    _connections(),
    _nodes(),
    _routes(),
]
