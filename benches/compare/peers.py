"""The proxies that are compared, and how each is started for the same work: one thread, a
consistent hash of the path, retries on, connections to nodes kept, no access log."""

import getpass
import ipaddress
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TEMPLATES = Path(__file__).parent / "peers"
FIRST_NODE = ipaddress.ip_address("127.1.0.1")
NGINX_BUFFERS_72K = """
            proxy_buffer_size 72k;
            proxy_buffers 4 72k;
            proxy_busy_buffers_size 144k;"""
# Without it nginx takes a request's body whole, by way of a file, before it goes on.
NGINX_STREAMED = """
            proxy_request_buffering off;"""


@dataclass(frozen=True)
class Settings:
    """How a proxy is set up. The peers read only `nodes`; the rest is keyway's."""

    nodes: int = 8
    routes: int = 1
    threads: int = 1
    access_log: str = "off"


@dataclass(frozen=True)
class Place:
    """Where a proxy runs and what it speaks."""

    folder: Path
    port: int
    admin_port: int
    node_port: int
    client: str
    node: str
    files_max: int


@dataclass(frozen=True)
class Tools:
    """The programs that are not installed but built or given."""

    keyway: Path
    load: Path
    backend: Path
    relay: Path
    envoy: Path | None
    pingora: Path | None


class _Template(string.Template):
    delimiter = "%"


def node_addresses(count: int) -> list[str]:
    """Different loopback addresses, so that nodes can share a port and a process."""
    return [str(FIRST_NODE + index) for index in range(count)]


def render(template: str, file: Path, **values: object) -> Path:
    """Writes the file that the template makes with the values."""
    file.write_text(_Template((TEMPLATES / template).read_text()).substitute(values))
    return file


def _keyway(tools: Tools, place: Place, settings: Settings) -> list[str]:
    write_topology(place, settings.nodes)
    matches = [f'{{ path: "{route_prefix(index)}**" }}' for index in range(settings.routes - 1)]
    routes = [
        f"  - {{ name: route-{index}, match: {match}, key: path, cluster: bench }}"
        for index, match in enumerate([*matches, "{}"])
    ]
    config = render(
        "keyway.yaml",
        place.folder / "keyway.yaml",
        port=place.port,
        admin_port=place.admin_port,
        threads=settings.threads,
        access_log=settings.access_log,
        routes="\n".join(routes),
        node_protocol={"http1": "http1", "http2": "h2"}[place.node],
    )
    return [str(tools.keyway), "run", "--config", str(config)]


def route_prefix(index: int) -> str:
    return f"/service-{index}/"


def write_topology(place: Place, nodes: int, epoch: int = 1) -> None:
    """Writes keyway's topology, whole at once. Each epoch changes a node's weight, so that a reload
    has a ring to build."""
    lines = ["version: 1", f"epoch: {epoch}", "clusters:", "  bench:", "    nodes:"]
    for index, address in enumerate(node_addresses(nodes)):
        weight = 100 + epoch % 2 if index == 0 else 100
        lines.append(
            f'      - {{ id: n{index}, address: "{address}:{place.node_port}", weight: {weight} }}'
        )
    lines.append("    replication_factor: 2")
    draft = place.folder / "topology.draft"
    draft.write_text("\n".join(lines) + "\n")
    draft.rename(place.folder / "topology.yaml")


def _haproxy(in_global: str = "", in_defaults: str = "") -> Callable:
    def command(_: Tools, place: Place, settings: Settings) -> list[str]:
        config = render(
            "haproxy.cfg",
            place.folder / "haproxy.cfg",
            port=place.port,
            client_protocol={"http1": "", "http2": "proto h2"}[place.client],
            node_protocol={"http1": "", "http2": "proto h2"}[place.node],
            nodes="\n".join(
                f"    server n{index} {address}:{place.node_port}"
                for index, address in enumerate(node_addresses(settings.nodes))
            ),
            **{"global": in_global, "defaults": in_defaults},
        )
        return ["haproxy", "-db", "-f", str(config)]

    return command


def _nginx(buffers: str = "") -> Callable:
    def command(_: Tools, place: Place, settings: Settings) -> list[str]:
        config = render(
            "nginx.conf",
            place.folder / "nginx.conf",
            user=_user(),
            files_max=place.files_max,
            folder=place.folder,
            port=place.port,
            client_protocol={"http1": "", "http2": "http2"}[place.client],
            nodes="\n".join(
                f"        server {address}:{place.node_port};"
                for address in node_addresses(settings.nodes)
            ),
            buffers=buffers,
        )
        return ["nginx", "-c", str(config)]

    return command


def _envoy(tools: Tools, place: Place, settings: Settings) -> list[str]:
    node = (
        "              - endpoint: {{ address: {{ socket_address: "
        "{{ address: {address}, port_value: {port} }} }} }}"
    )
    config = render(
        "envoy.yaml",
        place.folder / "envoy.yaml",
        port=place.port,
        node_protocol={"http1": "http_protocol_options", "http2": "http2_protocol_options"}[
            place.node
        ],
        nodes="\n".join(
            node.format(address=address, port=place.node_port)
            for address in node_addresses(settings.nodes)
        ),
    )
    return [
        str(tools.envoy),
        "--config-path",
        str(config),
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--disable-hot-restart",
    ]


def _pingora(tools: Tools, place: Place, settings: Settings) -> list[str]:
    nodes = [f"{address}:{place.node_port}" for address in node_addresses(settings.nodes)]
    return [str(tools.pingora), f"127.0.0.1:{place.port}", *nodes]


def _relay(tools: Tools, place: Place, settings: Settings) -> list[str]:
    return [
        str(tools.relay),
        str(place.port),
        str(place.node_port),
        *node_addresses(settings.nodes),
    ]


COMMANDS: dict[str, Callable[[Tools, Place, Settings], list[str]]] = {
    "keyway": _keyway,
    "haproxy": _haproxy(),
    "haproxy-splice": _haproxy(
        in_defaults="    option splice-auto\n    option splice-request\n    option splice-response"
    ),
    "haproxy-buf80": _haproxy(in_global="    tune.bufsize 81920"),
    "nginx": _nginx(),
    "nginx-buf72": _nginx(NGINX_BUFFERS_72K),
    "nginx-stream": _nginx(NGINX_BUFFERS_72K + NGINX_STREAMED),
    "envoy": _envoy,
    "pingora": _pingora,
    "relay": _relay,
}
"""Each writes its configuration and returns the command that starts the proxy."""


def http2_nodes(place: Place, size: int, nodes: int) -> list[str]:
    """The command of the nodes that speak HTTP/2 and answer with `size` bytes."""
    config = render(
        "nodes-http2.conf",
        place.folder / "nginx.conf",
        user=_user(),
        files_max=place.files_max,
        folder=place.folder,
        listen="\n".join(
            f"        listen {address}:{place.node_port} http2 backlog=4096;"
            for address in node_addresses(nodes)
        ),
        body="x" * size,
    )
    return ["nginx", "-c", str(config)]


def _user() -> str:
    return getpass.getuser()
