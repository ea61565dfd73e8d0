"""Where the services are and which key to show: options and environment first, then the running local stack."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cli.failure import CliError
from libs.client.connection import Connection

_Client = TypeVar("_Client", bound=Connection)

#: Written by `dev up` into its data directory: addresses by service, `tenant_key`, `service_token`.
STATE = "stack.json"
PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One service: `host:port` and the key to show there (empty: none)."""

    service: str
    target: str
    key: str

    def __str__(self) -> str:
        return f"the {self.service} service at {self.target}"


def find(service: str, target: str | None, key: str | None, *, places: tuple[Path, ...] = ()) -> Endpoint:
    """The endpoint of "router", "health", "ratelimit" or "analytics".

    `target` and `key` are what options or environment say, None or empty where they say nothing; `places` are the
    data directories in which the local stack's state file is looked for: by default POINTSMAN_DATA where it is set,
    else `.data` in the current directory and in the project.
    The stack's own key is shown only to the stack's own address. Raises CliError where there is no address.
    """
    state, path = _read(places or _data_directories())
    local = state.get(service)
    if local is not None and not isinstance(local, str):
        raise CliError(f"{path}: {service!r} is not an address")
    if not target and not local:
        raise CliError(
            f"no address for the {service} service: start the local stack with `make run`, "
            f"or name one with --{service} or POINTSMAN_{service.upper()}"
        )
    name = "tenant_key" if service == "router" else "service_token"
    own = state.get(name) if not target or target == local else None
    return Endpoint(service, target or str(local), key or (own if isinstance(own, str) else ""))


def _data_directories() -> tuple[Path, ...]:
    if named := os.environ.get("POINTSMAN_DATA"):
        return (Path(named),)
    return (Path.cwd() / ".data", PROJECT / ".data")


def _read(places: tuple[Path, ...]) -> tuple[dict[str, Any], Path]:
    for place in places:
        path = place / STATE
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise CliError(f"cannot read the local stack's state {path}: {error}") from None
        if not isinstance(state, dict):
            raise CliError(f"{path} is not a JSON object")
        return state, path
    return {}, Path(STATE)


def client(kind: type[_Client], endpoint: Endpoint, timeout: float) -> _Client:
    """A client of that kind, not yet open. Raises CliError for an address or key that can never work."""
    try:
        return kind(endpoint.target, endpoint.key, timeout=timeout)
    except ValueError as error:
        raise CliError(f"{endpoint}: {error}") from None
