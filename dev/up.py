"""`python -m dev up`: the whole stack as child processes, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.addresses import LOCK, STATE
from dev.catalog import Choice, choose, follow_changes, prepare
from dev.engines import EngineError, Postgres, Valkey
from dev.engines.child import free_port, port_is_free
from dev.engines.store import held, password, write_private
from dev.members import Engine, Member, Probe, Process, grpc_serving, http_serving
from dev.screen import Screen
from dev.stack import GRPC_SERVICES, SPAN, Plan, assign_ports
from dev.supervisor import StackError, Supervisor, free_bytes, has_room
from libs.clock import SystemClock

ROOT = Path(__file__).resolve().parents[1]
#: Seconds before SIGKILL for each layer of `compose`: together under the five that Ctrl-C may take.
GRACES = (1.3, 1.3, 1.9)

MIB = 1024 * 1024
#: The bytes of disk that a first start takes: PostgreSQL's new cluster with its write-ahead log, and Valkey's file.
FIRST_START = 64 * MIB


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. `port_base` 0 takes free ports; `catalog` empty chooses; `simulator` forces it."""

    data: Path
    port_base: int
    catalog: str = ""
    simulator: bool = False
    once: bool = False


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack, as the demonstration sees it."""

    plan: Plan
    choice: Choice
    tenant_key: str
    screen: Screen
    names: frozenset[str]

    @property
    def addresses(self) -> dict[str, str]:
        """Returns every address by name."""
        return {
            name: self.plan.address(name) for name in self.plan.ports if name.partition(" ")[0] in self.names
        }


Body = Callable[[Stack], Awaitable[None]]


def run(options: Options, body: Body | None = None) -> int:
    """Bring the stack up, run `body`, and stay up until a signal (with `once`: until `body` is done)."""
    try:
        asyncio.run(_run(options, body))
    except (EngineError, StackError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        # A file's error, or the last words of PostgreSQL or Valkey, which name no directory or a deep one.
        if any(os.strerror(full) in str(error) for full in (errno.ENOSPC, errno.EDQUOT)):
            print(_lack_of_room(options.data.absolute()), file=sys.stderr)
        return 1
    return 0


def _lack_of_room(data: Path) -> str:
    """Returns the sentence for a start that failed because the disk is full."""
    return (
        f"The disk of the data directory {data} has {free_bytes(data) // MIB} MiB left, and a first start takes "
        f"{FIRST_START // MIB}: make room there, or name another directory with --data."
    )


async def _run(options: Options, body: Body | None) -> None:
    data = options.data.absolute()
    sentence = (
        f"Another stack runs on {data}: stop it first (Ctrl-C there), or name another directory with --data."
    )
    # The command line tries this lock to find out if the addresses in the state file still hold.
    with held(data / LOCK, sentence):
        (data / STATE).unlink(missing_ok=True)  # of a stack that was killed
        choice = choose(ROOT, options.catalog, options.simulator, os.environ)
        plan, tenant_key, layers = compose(options, data, choice)
        _check_ports(plan, {member.name for layer in layers for member in layer})
        screen = Screen()
        supervisor = Supervisor(layers, SystemClock(), screen.write_sentence, lambda: has_room(data))
        names = frozenset(status.member.name for status in supervisor.statuses)
        stack = Stack(plan, choice, tenant_key, screen, names)
        screen.write_sentence(choice.why)
        interrupted = _interruption()
        async with _running(supervisor, data):
            await _until(interrupted, supervisor.start())
            if interrupted.is_set():
                return
            _write_state(data, stack)
            following = follow_changes(
                choice, data, password(data / "tenant_key"), os.environ, screen.write_sentence
            )
            tasks = [supervisor.keep_running(), following]
            await _until(interrupted, _beside(_main(stack, body, supervisor, once=options.once), tasks))


def compose(options: Options, data: Path, choice: Choice) -> tuple[Plan, str, list[list[Member]]]:
    """Returns the plan, the demo tenant's key and the processes, layered so that each stops before what it depends
    on."""
    try:
        ports = assign_ports(options.port_base, free_port)
    except ValueError as error:
        raise EngineError(f"{error}".capitalize() + ".") from error
    logs = data / "logs"
    # The limiter is set to trust this store (`Plan.environment`), so it may lose nothing.
    valkey = Valkey(data / "valkey", ports["valkey"], logs / "valkey.log", sync="always")
    postgres = Postgres(data / "postgres", ports["postgres"], logs / "postgres.log")
    catalog, tenant_key = prepare(choice, data, password(data / "tenant_key"))
    plan = Plan(
        root=ROOT,
        data=data,
        ports=ports,
        catalog=catalog,
        redis_url=valkey.url,
        postgres_dsn=postgres.dsn,
        service_token=password(data / "service_token"),
        provider_keys=choice.key_variables,
    )

    def process(name: str, probe: Probe, *arguments: str) -> Process:
        argv = [sys.executable, "-m", *arguments]
        env = plan.environment(name, os.environ)
        return Process(name, plan.address(name), argv, env, cwd=ROOT, log=logs / f"{name}.log", probe=probe)

    services = {name: process(name, grpc_serving, f"services.{name}") for name in GRPC_SERVICES}
    engines: list[Member] = [Engine("valkey", valkey), Engine("postgres", postgres)]
    layers: list[list[Member]] = [
        engines,
        [services["health"], services["ratelimit"], services["analytics"]],
        [services["router"]],
    ]
    if choice.simulate:
        arguments = ("dev.simulator", "--listen", plan.address("simulator"))
        layers[1].append(process("simulator", http_serving("/_control"), *arguments))
    return plan, tenant_key or os.environ.get("POINTSMAN_KEY", ""), layers


def _check_ports(plan: Plan, names: set[str]) -> None:
    for name, port in plan.ports.items():
        if name.partition(" ")[0] in names and not port_is_free(port):
            raise EngineError(
                f"Port {port} ({name}) is taken, maybe by another stack: end the program that has it, or move all "
                f"ports, which go up to {SPAN} above --port-base or POINTSMAN_PORT_BASE (0 takes free ones)."
            )


@contextlib.asynccontextmanager
async def _running(supervisor: Supervisor, data: Path) -> AsyncIterator[None]:
    try:
        yield
    finally:
        (data / STATE).unlink(missing_ok=True)
        await supervisor.stop(GRACES)


def _interruption() -> asyncio.Event:
    """Returns an event that Ctrl-C, SIGTERM or a closed terminal sets."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, event.set)
    # Never taken back: a second signal while stopping changes nothing, since stopping is bounded.
    return event


async def _until(event: asyncio.Event, work: Awaitable[None]) -> None:
    """Run until done or until the event; what was interrupted is cancelled, what failed raises."""
    waiting = asyncio.ensure_future(event.wait())
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait({waiting, working}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        waiting.cancel()
        working.cancel()
        await asyncio.gather(waiting, working, return_exceptions=True)


async def _main(stack: Stack, body: Body | None, supervisor: Supervisor, *, once: bool) -> None:
    if body is not None:
        try:
            await body(stack)
        except StackError as error:
            if once:
                raise
            # The stack is whole: the person who started it can read what the router says.
            stack.screen.write_sentence(f"{error}\n")
    if not once:
        for name, address in stack.addresses.items():
            stack.screen.write_sentence(f"  {name:<18} {address}")
        stack.screen.write_sentence(
            f"Keys and addresses for programs: {stack.plan.data / STATE}. Ctrl-C stops everything."
        )
        await stack.screen.live(supervisor.statuses)


async def _beside(main: Awaitable[None], endless: Sequence[Awaitable[None]]) -> None:
    """Run `main` beside tasks that end only by failing; the first to end or fail ends all."""
    tasks = [asyncio.ensure_future(task) for task in (main, *endless)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _write_state(data: Path, stack: Stack) -> None:
    state: Mapping[str, str] = stack.addresses | {
        "tenant_key": stack.tenant_key,
        "service_token": stack.plan.service_token,
        "simulated": "yes" if stack.choice.simulate else "",
    }
    write_private(data / STATE, json.dumps(state, indent=2) + "\n")
