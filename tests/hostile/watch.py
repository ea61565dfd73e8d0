"""Watches a server process from outside: the CPU its loop's thread takes in one go, and its memory, which it caps.

A process of its own, so that nothing that the attacker does slows it down. The loop runs in the main thread, whose
CPU time the kernel counts (`schedstat`, in nanoseconds). A small call goes through the loop again and again; the CPU
used between two of its answers is at least what the longest callback in between took, so a bound on it is a bound on
that.

The memory is capped as a container's would be: above the cap the process is killed at once.

    python -m tests.hostile.watch <pid> <cap in bytes> <host:port> grpc|http

Every line on stdin is answered by a line of JSON (`Reading`) about the time since the line before.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

#: Seconds between two looks at the memory, and between two calls through the loop.
MEMORY_PERIOD = 0.005
CALL_PERIOD = 0.01
#: Seconds a call through the loop may take; then the loop counts as stuck.
PATIENCE = 20.0
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Reading:
    """Measurements of a server. `longest` is in seconds of CPU between two answers, `stuck` in seconds since the call
    that has not been answered yet was sent; memory in bytes.
    not been answered yet was sent; memory in bytes."""

    longest: float = 0.0
    answers: int = 0
    refusals: int = 0
    stuck: float = 0.0
    before: int = 0
    peak: int = 0
    #: It was killed for its memory, or is gone.
    dead: bool = False

    def joined(self, later: Reading) -> Reading:
        """Both together."""
        return Reading(
            max(self.longest, later.longest),
            self.answers + later.answers,
            self.refusals + later.refusals,
            later.stuck,
            self.before,
            max(self.peak, later.peak),
            self.dead or later.dead,
        )


class Watch:
    """The measurements that both threads write down."""

    def __init__(self, pid: int, cap: int, call: Callable[[], object]) -> None:
        self._pid = pid
        self._cap = cap
        self._call = call
        self._lock = threading.Lock()
        self._sent = time.monotonic()
        self._dead = False
        self._reading = Reading()
        self.read()

    def read(self) -> Reading:
        """Returns the measurements since the last reading."""
        with self._lock:
            reading = self._reading
            reading.stuck = time.monotonic() - self._sent
            reading.dead = self._dead
            memory = self._memory()
            self._reading = Reading(before=memory, peak=memory)
            return reading

    def watch_memory(self) -> None:
        """Until the process is gone."""
        while not self._dead:
            memory = self._memory()
            with self._lock:
                self._reading.peak = max(self._reading.peak, memory)
            if memory > self._cap:
                os.kill(self._pid, signal.SIGKILL)
                self._dead = True
            time.sleep(MEMORY_PERIOD)

    def watch_loop(self) -> None:
        """Until the process is gone."""
        before = self._cpu()
        while not self._dead:
            self._sent = time.monotonic()
            try:
                self._call()
                answered = True
            except (grpc.RpcError, OSError, http.client.HTTPException):
                answered = False
            self._sent = time.monotonic()
            after = self._cpu()
            with self._lock:
                self._reading.longest = max(self._reading.longest, after - before)
                self._reading.answers += answered
                self._reading.refusals += not answered
            before = after
            time.sleep(CALL_PERIOD)

    def _memory(self) -> int:
        try:
            return int(Path(f"/proc/{self._pid}/statm").read_text().split()[1]) * PAGE
        except (OSError, IndexError):
            self._dead = True
            return 0

    def _cpu(self) -> float:
        """Seconds of CPU that the main thread has used."""
        try:
            return int(Path(f"/proc/{self._pid}/task/{self._pid}/schedstat").read_text().split()[0]) / 1e9
        except (OSError, IndexError):
            self._dead = True
            return 0.0


def call_grpc(address: str) -> Callable[[], object]:
    """grpc.health.v1, which every server answers in its loop."""
    stub: Any = health_pb2_grpc.HealthStub(grpc.insecure_channel(address))
    request = health_pb2.HealthCheckRequest()
    return lambda: stub.Check(request, timeout=PATIENCE)


def call_http(address: str) -> Callable[[], object]:
    """`GET /healthz`, on one connection as long as it lasts."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)

    def call() -> bytes:
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise

    return call


def main() -> None:
    """Answers lines until stdin ends."""
    pid, cap, address, wire = sys.argv[1:]
    watch = Watch(int(pid), int(cap), call_grpc(address) if wire == "grpc" else call_http(address))
    for run in (watch.watch_memory, watch.watch_loop):
        threading.Thread(target=run, daemon=True).start()
    for _ in sys.stdin:
        print(json.dumps(asdict(watch.read())), flush=True)


if __name__ == "__main__":
    main()
