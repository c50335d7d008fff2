"""One measured burst of load on a running proxy, of each kind; each returns measures by name."""

import re
import time
import urllib.request
from collections.abc import Callable

from load import Load, LoadError
from measure import cpu_ns, memory_kib, voluntary_switches
from peers import write_topology
from stage import Proxy, Stage

Measures = dict[str, float]

# Until the kernel and allocators have done what follows the opening of many connections.
SETTLE_SECONDS = 1.0
# Makes a proxy touch the memory that it needs once, whatever the number of connections.
WARM_UP = Load(requests=2000)


def cpu(stage: Stage, proxy: Proxy, load: Load) -> Measures:
    """CPU time and context switches a request, and the open loop's latencies. The opening and
    closing of kept connections is left out."""
    return _burst(stage, proxy, load)


def reloads(stage: Stage, proxy: Proxy, load: Load) -> Measures:
    """As `cpu`, with a changed topology each second; the changes must have been applied."""

    def change_topology() -> None:
        proxy.epoch += 1
        write_topology(proxy.place, proxy.settings.nodes, proxy.epoch)

    first, before = proxy.epoch, _reloads_applied(proxy)
    measures = _burst(stage, proxy, load, change_topology)
    written, applied = proxy.epoch - first, _reloads_applied(proxy) - before
    # The last one may still be under way.
    if applied < max(written - 1, 1):
        raise LoadError(f"{proxy.process.name} applied {applied} of {written} reloads")
    return measures


def idle(stage: Stage, proxy: Proxy, load: Load) -> Measures:
    """Memory that an idle connection holds, after one request on it."""
    _burst(stage, proxy, WARM_UP)
    time.sleep(SETTLE_SECONDS)
    before = memory_kib(proxy.pid)
    client = stage.client(proxy, load)
    try:
        client.await_ready()
        time.sleep(SETTLE_SECONDS)
        used = memory_kib(proxy.pid) - before
        client.run()
    finally:
        client.close()
    return {"kib": used / load.connections}


def _burst(
    stage: Stage, proxy: Proxy, load: Load, each_second: Callable[[], None] | None = None
) -> Measures:
    client = stage.client(proxy, load)
    try:
        client.await_ready()
        cpu_before, switches_before = cpu_ns(proxy.pid), voluntary_switches(proxy.pid)
        result = client.run(each_second)
        used = cpu_ns(proxy.pid) - cpu_before
        switches = voluntary_switches(proxy.pid) - switches_before
    finally:
        client.close()
    return {
        "cpu_us": used / 1000 / result.requests,
        "switches": switches / result.requests,
        "requests_per_second": result.requests / result.seconds,
        "busy": used / 1e9 / result.seconds,
        **result.latencies_us,
    }


def _reloads_applied(proxy: Proxy) -> int:
    address = f"http://127.0.0.1:{proxy.place.admin_port}/metrics"
    with urllib.request.urlopen(address, timeout=10) as response:
        metrics = response.read().decode()
    applied = re.search(r'^keyway_config_reloads_total\{outcome="applied"\} (\d+)', metrics, re.M)
    return int(applied[1]) if applied else 0
