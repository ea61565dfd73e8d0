"""Finds the addresses of services and the keys to show there: options and environment first, then the running local
stack."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cli.failure import CliError
from libs.client.connection import ServiceClient

_Client = TypeVar("_Client", bound=ServiceClient)

#: Written by `dev up` into its data directory: addresses by service, `tenant_key`, `service_token`.
STATE = "stack.json"
#: Beside it, locked for as long as `dev up` lives, however it ends.
LOCK = "lock"
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
    """Returns the endpoint of "router", "health", "ratelimit" or "analytics".

    `target` and `key` are those of options or environment, None or empty where there are none; `places` are the
    data directories in which the local stack's state file is looked for: by default POINTSMAN_DATA where it is set,
    else `.data` in the current directory and in the project.
    The stack's own key is shown only to the stack's own address. Raises CliError where there is no address.
    """
    state, path, gone = _read(places or _data_directories())
    local = state.get(service)
    if local is not None and not isinstance(local, str):
        raise CliError(f"{path}: {service!r} is not an address")
    if not target and not local:
        why = (
            f"the local stack of {path.parent} was killed"
            if gone
            else f"no address for the {service} service"
        )
        raise CliError(
            f"{why}: start the local stack with `make run`, "
            f"or name an address with --{service} or POINTSMAN_{service.upper()}"
        )
    name = "tenant_key" if service == "router" else "service_token"
    own = state.get(name) if not target or target == local else None
    return Endpoint(service, target or str(local), key or (own if isinstance(own, str) else ""))


def _data_directories() -> tuple[Path, ...]:
    if named := os.environ.get("POINTSMAN_DATA"):
        return (Path(named),)
    return (Path.cwd() / ".data", PROJECT / ".data")


def _read(places: tuple[Path, ...]) -> tuple[dict[str, Any], Path, bool]:
    """Returns the state of the first stack that runs, and its file. Where none does: nothing, and with True the file
    that a killed one left behind."""
    left: Path | None = None
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
        if _is_running(place):
            return state, path, False
        left = left or path
    return {}, left or Path(STATE), left is not None


def _is_running(place: Path) -> bool:
    """Returns True if a stack holds the directory's lock, and where that cannot be found out."""
    try:
        descriptor = os.open(place / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def client(kind: type[_Client], endpoint: Endpoint, timeout: float) -> _Client:
    """Returns a client of that kind, not yet open. Raises CliError for an address or key that can never work."""
    try:
        return kind(endpoint.target, endpoint.key, timeout=timeout)
    except ValueError as error:
        raise CliError(f"{endpoint}: {error}") from None
