"""Chooses the catalog that the stack runs on, and its keys, and prepares it for the services."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dev.engines import EngineError
from dev.engines.store import write_private
from libs.catalog.catalog import Catalog
from libs.catalog.faults import CatalogError
from libs.catalog.load import load
from libs.catalog.model import Provider

#: The key of the tenant `demo` in config/*.yaml, known to everyone. It opens the simulator, never a paid provider.
PUBLISHED_KEY = "demo-key"
PUBLISHED_HASH = hashlib.sha256(PUBLISHED_KEY.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Choice:
    """The catalog that the stack runs on. `simulate`: the simulator stands in for providers. `why` is one sentence
    for the person at the terminal."""

    path: Path
    catalog: Catalog
    simulate: bool
    why: str

    @property
    def key_variables(self) -> frozenset[str]:
        """The environment variables that hold providers' keys."""
        everyone = [route for p in self.catalog.providers.values() for route in p.routes or (p,)]
        return frozenset(route.api_key_env for route in everyone if route.api_key_env)


def choose(root: Path, named: str, simulate: bool, environ: Mapping[str, str]) -> Choice:
    """Returns the named catalog with the providers it names; else the default one where the environment holds a key
    for it; else the simulator's. `simulate` starts the simulator beside a named catalog, which may point at it.

    Raises EngineError for a catalog with faults, and for a named one with no provider that can be called.
    """
    if named:
        path = Path(named).absolute()
        catalog = _load(path, environ)
        usable, missing = _usable(catalog, environ)
        if not usable and not simulate:
            raise EngineError(f"No provider of {path} can be called: set {' or '.join(missing)}.")
        return Choice(path, catalog, simulate, _providers(path, usable, missing))
    default = root / "config" / "pointsman.yaml"
    catalog = _load(default, environ)
    usable, missing = _usable(catalog, environ)
    if usable and not simulate:
        return Choice(default, catalog, False, _providers(default, usable, missing))
    path = root / "config" / "simulator.yaml"
    why = (
        "No provider key is set, so a simulator on this machine answers: the texts are made up, "
        "and the costs are what the real models would charge."
    )
    return Choice(path, _load(path, environ), True, why)


def prepare(choice: Choice, data: Path, key: str) -> tuple[Path, str]:
    """Returns the catalog file that the services read, and the key of a tenant in it (empty: only its owner knows
    one).

    Where the catalog admits the published key to paid providers, the file is a copy in the data directory that admits
    `key` instead; call again when the catalog changes.
    """
    text = choice.path.read_text(encoding="utf-8")
    if PUBLISHED_HASH not in text:
        return choice.path, ""
    if choice.simulate:
        return choice.path, PUBLISHED_KEY
    copy = data / "catalog.yaml"
    text = text.replace(PUBLISHED_HASH, hashlib.sha256(key.encode()).hexdigest())
    if not copy.exists() or copy.read_text(encoding="utf-8") != text:
        write_private(copy, text)
    return copy, key


async def follow_changes(
    choice: Choice,
    data: Path,
    key: str,
    environ: Mapping[str, str],
    report: Callable[[str], None],
    pause: float = 1.0,
) -> None:
    """Checks every `pause` seconds whether the catalog has changed, carries a change over into the copy that the
    services read, and reports in a sentence whether they will take it. Never returns. They judge a change as
    `CatalogHolder` does: once the file is the same at two checks."""
    last = reported = _content(choice.path)
    while True:
        await asyncio.sleep(pause)
        # An editor may be replacing it at this moment; what is no text the services refuse, and keep the one before.
        with suppress(OSError, UnicodeError):
            prepare(choice, data, key)
        now = _content(choice.path)
        if now == last != reported:
            reported = now
            report(await asyncio.to_thread(_verdict, choice.path, environ))
        last = now


def _content(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None


def _verdict(path: Path, environ: Mapping[str, str]) -> str:
    try:
        load(path, environ=environ)
    except CatalogError as error:
        first, *others = str(error).splitlines()
        more = f" (`python -m libs.catalog check` shows {len(others)} more)" if others else ""
        return f"The changed catalog is refused, and the one before stays: {first}{more}"
    return f"The changed catalog is taken over: {path}"


def _usable(catalog: Catalog, environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Returns the providers that can be called, and what would have to be set for the others."""
    usable: list[str] = []
    missing: list[str] = []
    for provider in catalog.providers.values():
        # With several keys one is enough.
        absent = [what for route in provider.routes or (provider,) if (what := _absent_key(route, environ))]
        if len(absent) < max(1, len(provider.routes)):
            usable.append(provider.name)
        else:
            missing += dict.fromkeys(absent)
    return usable, missing


def _absent_key(provider: Provider, environ: Mapping[str, str]) -> str:
    """Returns what has to be set for the provider's key; empty where it is there, or none is needed."""
    if provider.api_key_file:
        return "" if Path(provider.api_key_file).exists() else f"the file {provider.api_key_file}"
    return "" if environ.get(provider.api_key_env) else provider.api_key_env


def _providers(path: Path, usable: list[str], missing: list[str]) -> str:
    without = f" Not called, for want of a key: set {', '.join(missing)}." if missing else ""
    return f"Catalog {path}: {', '.join(usable)}.{without}"


def _load(path: Path, environ: Mapping[str, str]) -> Catalog:
    try:
        return load(path, environ=environ, prices=False)
    except CatalogError as error:
        raise EngineError(str(error)) from error
