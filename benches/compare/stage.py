"""Where a scenario plays: its nodes and proxies, started and kept on their cores and ports."""

import os
from dataclasses import dataclass, field

from load import Http1Client, Http2Client, Load
from peers import COMMANDS, Place, Settings, Tools, http2_nodes
from processes import Process, Workspace


@dataclass(frozen=True)
class Cores:
    """Clients and nodes share the last core, so that what they do does not disturb the proxy on the
    first ones."""

    all: list[int] = field(default_factory=lambda: sorted(os.sched_getaffinity(0)))

    def of_load(self) -> set[int]:
        return set(self.all[-1:])

    def of_proxy(self, count: int) -> set[int]:
        """The first cores; all of them, when so many are asked for, with the load on the last."""
        return set(self.all[:count])


@dataclass
class Proxy:
    """A running proxy."""

    process: Process
    place: Place
    settings: Settings
    epoch: int = 1
    """The last epoch of its topology, for keyway."""

    @property
    def pid(self) -> int:
        return self.process.pid


class Stage:
    """Starts the nodes and proxies of one scenario, and the clients of its bursts."""

    def __init__(
        self,
        workspace: Workspace,
        tools: Tools,
        *,
        cores: Cores,
        proxy_cores: int,
        base_port: int,
        files_max: int,
    ):
        self._workspace = workspace
        self._tools = tools
        self._cores = cores
        self._proxy_cores = proxy_cores
        self._files_max = files_max
        self._node_ports = {"http1": base_port, "http2": base_port + 1}
        self._next_port = base_port + 2
        self._node_processes: dict[str, Process] = {}

    def start_nodes(self, load: Load, count: int) -> None:
        """Starts the nodes that the load needs, once."""
        if load.node in self._node_processes:
            return
        place = self._new_place(f"nodes-{load.node}", load)
        if load.node == "http1":
            command = [str(self._tools.backend), str(place.node_port)]
        else:
            command = http2_nodes(place, load.size, count)
        process = self._workspace.start("nodes", command, self._cores.of_load(), place.folder)
        self._node_processes[load.node] = process
        process.await_port("127.1.0.1", place.node_port)

    def start_proxy(self, name: str, peer: str, load: Load, settings: Settings) -> Proxy:
        place = self._new_place(name, load)
        command = COMMANDS[peer](self._tools, place, settings)
        cores = self._cores.of_proxy(self._proxy_cores)
        process = self._workspace.start(name, command, cores, place.folder)
        process.await_port("127.0.0.1", place.port)
        return Proxy(process, place, settings)

    def end_proxy(self, proxy: Proxy) -> None:
        self._workspace.end(proxy.process)

    def client(self, proxy: Proxy, load: Load) -> Http1Client | Http2Client:
        cores = self._cores.of_load()
        if load.client == "http1":
            return Http1Client(self._workspace, self._tools.load, cores, proxy.place.port, load)
        return Http2Client(self._workspace, cores, proxy.place.port, load)

    def _new_place(self, name: str, load: Load) -> Place:
        port = self._next_port
        self._next_port += 2
        return Place(
            folder=self._workspace.new_folder(name.replace(" ", "-")),
            port=port,
            admin_port=port + 1,
            node_port=self._node_ports[load.node],
            client=load.client,
            node=load.node,
            files_max=self._files_max,
        )
