"""Reads a catalog file into values, or refuses it with every fault that it holds. `docs/catalog.md` shows the
format."""

from __future__ import annotations

import gc
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from libs.catalog import sections
from libs.catalog.catalog import Catalog
from libs.catalog.checks import check_name
from libs.catalog.document import Node, parse
from libs.catalog.faults import CatalogError, Fault
from libs.catalog.kinds import KINDS
from libs.catalog.limits import LimitSpec
from libs.catalog.model import DEFAULT, ContentType, Model, Policy, Provider, Tenant, Weighted
from libs.catalog.reader import Section
from libs.catalog.references import Path as Place
from libs.catalog.references import broken_references

#: The longest file that is read, in bytes: room for a quarter of a million tenants.
MAX_BYTES = 64 * 1024 * 1024
SCHEMA_VERSION = 1

T = TypeVar("T")


def load(path: Path | str, *, environ: Mapping[str, str] | None = None, prices: bool = True) -> Catalog:
    """Reads a catalog file. `environ` serves `${NAME}` (None: the process's environment). `prices`: also
    require that every model's price is known, which imports the price list (0.5 s and 70 MB, needed only
    where costs are computed). Raises CatalogError, also where the file cannot be read."""
    try:
        data = read_bytes(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CatalogError(str(path), [Fault(0, (), f"cannot be read: {reason}")]) from error
    return loads(data, str(path), environ=environ, prices=prices)


def loads(
    data: bytes, file: str, *, environ: Mapping[str, str] | None = None, prices: bool = True
) -> Catalog:
    """Reads a catalog as `load` does, from a file's content; `file` names it in faults, and relative key files are
    beside it."""
    with _without_gc():
        return _loads(data, file, os.environ if environ is None else environ, prices)


@contextmanager
def _without_gc() -> Iterator[None]:
    """Stops the garbage collector meanwhile. Large files make millions of objects and no cycles; looking for cycles
    among them takes a third of the time, in pauses of seconds for every thread."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _loads(data: bytes, file: str, environ: Mapping[str, str], prices: bool) -> Catalog:
    faults: list[Fault] = []
    root = _root(data, faults)
    if root is None or not isinstance(root.value, dict):
        raise CatalogError(file, faults or [Fault(0, (), "the file is empty or not a mapping")])
    draft = _read(Section(root, (), faults), environ, Path(file).absolute().parent)
    wrong = [
        (place, message) for place, name, message in broken_references(draft) if name not in draft.refused
    ]
    wrong += _impossible(draft)
    if prices:
        wrong += _unpriced(draft)
    if wrong:
        whole = _root(data, [])
        faults += [Fault(_line(whole, place), place, message) for place, message in wrong]
    if faults:
        raise CatalogError(file, faults)
    return Catalog(
        version=hashlib.sha256(data).hexdigest()[:12],
        domain=draft.domain,
        default_content_type=draft.default_content_type,
        providers=draft.providers,
        models=draft.models,
        policies=draft.policies,
        content_types=draft.content_types,
        tenants=draft.tenants,
        keys=draft.keys,
    )


def read_bytes(path: Path | str) -> bytes:
    """Returns a regular file's content. Raises OSError, or ValueError where it is too large or something else than a
    file (opening a pipe would wait for ever)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES // 1024 // 1024} MiB")
    return data


@dataclass(slots=True)
class _Draft:
    """The entries of a file that were right. `refused`: names whose entries were wrong, so that references to them
    are not reported as leading nowhere on top."""

    domain: str = ""
    default_content_type: str = ""
    providers: dict[str, Provider] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    content_types: dict[str, ContentType] = field(default_factory=dict)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    keys: dict[str, tuple[LimitSpec, ...]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)


def _root(data: bytes, faults: list[Fault]) -> Node | None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        faults.append(Fault(data.count(b"\n", 0, error.start) + 1, (), "not UTF-8"))
        return None
    return parse(text, faults)


def _read(root: Section, environ: Mapping[str, str], folder: Path) -> _Draft:
    draft = _Draft()
    version = root.integer("version")
    if version != SCHEMA_VERSION:
        root.fault(f"must be {SCHEMA_VERSION}, the version of the file format", "version")
    draft.domain = root.text("domain", "pointsman", rule=check_name)
    draft.default_content_type = root.text("default_content_type", "general")
    for name, section in root.sections("providers"):
        _add(draft.providers, name, sections.provider(name, section, environ, folder), draft)
    incomplete = bool(draft.refused)
    for name, section in root.sections("keys"):
        _add(draft.keys, name, sections.key(section), draft)
    if incomplete:
        # They may be those of providers that were wrong.
        draft.refused.update(draft.keys)
    for name, section in root.sections("models"):
        _add(draft.models, name, sections.model(name, section), draft)
    for name, section in root.sections("policies"):
        _add(draft.policies, name, sections.policy(name, section), draft)
    for name, section in root.sections("content_types"):
        _add(draft.content_types, name, sections.content_type(name, section), draft)
    for name, section in root.sections("tenants"):
        _add(draft.tenants, name, sections.tenant(name, section), draft)
    if DEFAULT not in draft.policies and DEFAULT not in draft.refused and draft.models:
        draft.policies[DEFAULT] = Policy(DEFAULT, (tuple(Weighted(name) for name in draft.models),))
    if not draft.models and not draft.refused:
        root.fault("at least one model is needed", "models")
    root.close()
    return draft


def _add(into: dict[str, T], name: str, entry: T | None, draft: _Draft) -> None:
    if entry is None:
        draft.refused.add(name)
    else:
        into[name] = entry


def _line(root: Node | None, place: Place) -> int:
    """Returns the line of a place, or of the nearest thing around it that is in the file."""
    node, line = root, 0
    for step in place:
        if node is not None and isinstance(node.value, dict):
            node = node.value.get(str(step))
        elif node is not None and isinstance(node.value, list) and isinstance(step, int):
            node = node.value[step]
        if node is None:
            break
        line = node.line
    return line


def _impossible(draft: _Draft) -> list[tuple[Place, str]]:
    """Returns the capabilities that a model's provider has no form for."""
    wrong: list[tuple[Place, str]] = []
    for model in draft.models.values():
        provider = draft.providers.get(model.provider)
        if provider is None:
            continue
        message = f"a provider of kind {provider.kind} has no form for"
        wrong += [
            (("models", model.id, "capabilities"), f"{message} {lacking}")
            for lacking in KINDS[provider.kind].lacks
            if lacking in model.capabilities
        ]
    return wrong


def _unpriced(draft: _Draft) -> list[tuple[Place, str]]:
    from libs.catalog.prices import why_unpriced

    pairs = ((draft.providers.get(model.provider), model) for model in draft.models.values())
    reasons = ((model, why_unpriced(provider, model)) for provider, model in pairs if provider is not None)
    return [(("models", model.id), reason) for model, reason in reasons if reason is not None]
