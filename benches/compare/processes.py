"""Processes and their folder: started on a core, logged to a file, ended by their own ids however
the comparison ends."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from measure import process_tree

START_SECONDS_MAX = 15
END_SECONDS_MAX = 3
LOG_LINES_SHOWN = 8
# A proxy with 10 000 clients and a connection to a node for each needs so many.
FILES_MAX = 65536

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class ProcessError(Exception):
    """A process did not start, or ended before its time."""


class Process:
    """A started process."""

    def __init__(self, name: str, popen: subprocess.Popen, log: Path):
        self.name = name
        self.pid = popen.pid
        self.log = log
        self.popen = popen

    def has_ended(self) -> bool:
        return self.popen.poll() is not None

    def log_tail(self) -> str:
        """What it said last, for an error message."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join(f"    {line}" for line in lines) or "    (it logged nothing)"

    def await_port(self, address: str, port: int) -> None:
        """Waits until the process listens."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.has_ended():
                raise ProcessError(f"{self.name} ended when started; its log:\n{self.log_tail()}")
            try:
                socket.create_connection((address, port), timeout=0.2).close()
                return
            except OSError:
                time.sleep(0.02)
        raise ProcessError(f"{self.name} does not listen on {port}; its log:\n{self.log_tail()}")

    def end(self) -> None:
        """Ends the process and its descendants: politely, then not."""
        if self.has_ended():
            return
        tree = process_tree(self.pid)
        self.popen.terminate()
        try:
            self.popen.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            for pid in tree:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.popen.wait()


class Workspace:
    """A temporary folder and the processes started in it; both are gone after the `with`."""

    def __enter__(self) -> "Workspace":
        self._temporary = tempfile.TemporaryDirectory(prefix="keyway-compare-")
        self.folder = Path(self._temporary.name)
        self._processes: list[Process] = []
        self._folders = 0
        return self

    def __exit__(self, *_: object) -> None:
        while self._processes:
            self._processes.pop().end()
        self._temporary.cleanup()

    def new_folder(self, name: str) -> Path:
        self._folders += 1
        folder = self.folder / f"{self._folders}-{name}"
        folder.mkdir()
        return folder

    def start(
        self,
        name: str,
        command: list[str],
        cores: set[int],
        folder: Path,
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
    ) -> Process:
        """Starts a command on the cores; what it prints goes to its log, but for `stdout`."""
        log = folder / "log"

        def enter_child() -> None:
            os.sched_setaffinity(0, cores)
            # Should the comparison be killed, its processes do not outlive it.
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        with log.open("wb") as output:
            try:
                popen = subprocess.Popen(
                    command,
                    cwd=folder,
                    stdin=stdin,
                    stdout=stdout or output,
                    stderr=output,
                    # A Ctrl-C is for the comparison, which then ends them in order.
                    start_new_session=True,
                    preexec_fn=enter_child,
                )
            except OSError as error:
                raise ProcessError(
                    f"{name}: cannot start {command[0]}: {error.strerror}"
                ) from error
        process = Process(name, popen, log)
        self._processes.append(process)
        return process

    def end(self, process: Process) -> None:
        process.end()
        self._processes.remove(process)


def raise_open_files_limit() -> int:
    """As many open files as the scenarios need, or as are allowed; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, max(hard, FILES_MAX)))
        return FILES_MAX
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
