"""The process: arguments, listening, the ready line, the end."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from aiohttp import web

from dev.simulator.app import Simulator
from dev.simulator.behaviour import Scenario, parse_scenario
from dev.simulator.control import PREFIX, control
from libs.clock import Clock, SystemClock

_MAX_BODY = 64 * 1024 * 1024
#: Seconds for which requests in flight may go on after the process was asked to end.
_DRAIN_SECONDS = 0.1
EXIT_USAGE = 64


@asynccontextmanager
async def serving(
    host: str, port: int, scenario: Scenario | None = None, clock: Clock | None = None
) -> AsyncIterator[str]:
    """Serve until the block ends; gives the base URL. Port 0 takes any free one. OSError where it is taken."""
    simulator = Simulator(clock or SystemClock(), scenario or Scenario())
    loop = asyncio.get_running_loop()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith(PREFIX):
            return await control(simulator, request)
        return await simulator.handle(request)

    def make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY)

    server = web.Server(handler, request_factory=make_request, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=_DRAIN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        bound = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
    finally:
        simulator.closing = True
        await runner.cleanup()


async def _run(host: str, port: int, scenario: Scenario, stop_on_stdin_close: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serving(host, port, scenario) as url:
        print(json.dumps({"listening": url}), flush=True)
        if stop_on_stdin_close:
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            reading = asyncio.create_task(_until_closed(reader, stop))
            await stop.wait()
            reading.cancel()
        else:
            await stop.wait()


async def _until_closed(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    while await reader.read(4096):
        pass
    stop.set()


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dev.simulator", description="Plays many AI providers.")
    parser.add_argument("--listen", default="127.0.0.1:7790", help="host:port; port 0 takes any free one")
    parser.add_argument("--scenario", type=Path, help="JSON file of behaviours by virtual provider")
    parser.add_argument("--stop-on-stdin-close", action="store_true", help="end with the parent")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the simulator. Exit status: 0 after a signal, 64 for wrong arguments or a wrong scenario, 1 where the port
    is taken."""
    given = _arguments(arguments)
    host, _, port = given.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        print(f"simulator: --listen {given.listen!r} is not host:port", file=sys.stderr)
        return EXIT_USAGE
    scenario = Scenario()
    if given.scenario is not None:
        try:
            scenario = parse_scenario(given.scenario.read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            print(f"simulator: cannot read the scenario {given.scenario}: {error}", file=sys.stderr)
            return EXIT_USAGE
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(host.strip("[]"), int(port), scenario, given.stop_on_stdin_close))
    except OSError as error:
        print(f"simulator: cannot listen on {given.listen}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0
