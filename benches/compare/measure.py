"""What a proxy, a process with its descendants, costs by the kernel's account: CPU time, memory,
context switches."""

import time
from contextlib import suppress
from pathlib import Path


def process_tree(pid: int) -> list[int]:
    """The process and its descendants that are alive."""
    tree = [pid]
    for parent in tree:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):  # the thread ended meanwhile
                tree += map(int, children.read_text().split())
    return tree


def cpu_ns(pid: int) -> int:
    """CPU time so far, in nanoseconds: exact, where /proc/PID/stat counts ticks, and with the
    threads that have ended, which /proc/PID/task/*/schedstat forgets."""
    return sum(time.clock_gettime_ns(_cpu_clock(member)) for member in process_tree(pid))


def _cpu_clock(pid: int) -> int:
    """What clock_getcpuclockid(3) tells for a process: the complement of its number, three bits to
    the left, and CPUCLOCK_SCHED."""
    return ~pid << 3 | 2


def memory_kib(pid: int) -> int:
    """Memory in KiB; pages shared with other processes count by their share (PSS)."""
    return sum(_field(f"/proc/{member}/smaps_rollup", "Pss:") for member in process_tree(pid))


def voluntary_switches(pid: int) -> int:
    """How often threads gave up the CPU to wait for something, so far."""
    threads = [
        thread for member in process_tree(pid) for thread in Path(f"/proc/{member}/task").iterdir()
    ]
    return sum(_field(f"{thread}/status", "voluntary_ctxt_switches:") for thread in threads)


def _field(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LookupError(f"{path} has no {name}")
