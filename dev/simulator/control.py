"""The control API.

GET    /_control                 every virtual provider's report
PUT    /_control                 {"strict": true}: those that say nothing of it refuse what their vendors refuse
DELETE /_control                 forget them all
GET    /_control/<name>          {"name", "seconds_since_set", "counters", "attempts", "last_request", "last_headers",
                                 "behaviour"}; keys are never shown
PUT    /_control/<name>          set its behaviour (`behaviour.py`), whole; counters, faults and times start again
POST   /_control/<name>/reset    counters, faults and times start again; the behaviour stays
DELETE /_control/<name>          forget it; the default behaviour applies on next use

400 with {"error"} names the wrong field; 404 an unknown path.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from dev.simulator.app import Simulator
from dev.simulator.behaviour import parse_behaviour, parse_settings

PREFIX = "/_control"


def _json(data: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(data), status=status, content_type="application/json")


async def control(simulator: Simulator, request: web.BaseRequest) -> web.Response:
    """Answer one control request."""
    path = request.raw_path.partition("?")[0][len(PREFIX) :].strip("/")
    name, _, action = path.partition("/")
    name = unquote(name)
    body = await request.read()
    if not name:
        if request.method == "DELETE":
            simulator.providers.clear()
        elif request.method == "PUT":
            try:
                simulator.strict = parse_settings(body).strict
            except msgspec.DecodeError as error:
                return _json({"error": str(error)}, 400)
        elif request.method != "GET":
            return _json({"error": "name a virtual provider"}, 404)
        return _json({"providers": {key: one.report() for key, one in simulator.providers.items()}})
    if name.startswith("_"):
        return _json({"error": "names beginning with an underscore are the simulator's own"}, 400)
    if request.method == "PUT" and not action:
        try:
            behaviour = parse_behaviour(body)
        except msgspec.DecodeError as error:
            return _json({"error": str(error)}, 400)
        simulator.provider(name).set(behaviour)
    elif request.method == "POST" and action == "reset":
        simulator.provider(name).reset()
    elif request.method == "DELETE" and not action:
        simulator.providers.pop(name, None)
        return _json({})
    elif request.method != "GET" or action:
        return _json({"error": f"no {request.method} /{path}"}, 404)
    return _json(simulator.provider(name).report())
