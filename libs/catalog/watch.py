"""The catalog in use: replaced when its file changes to a good one, kept when it changes to a bad one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from libs.catalog.catalog import Catalog
from libs.catalog.faults import CatalogError
from libs.catalog.load import load

Subscriber = Callable[[Catalog, Catalog], None]
_Stamp = tuple[int, int, int, int, int]


class CatalogHolder:
    """Holds the catalog of a file. Raises CatalogError where the first load fails.

    `environ`, `prices`: as in `load`. `interval`: seconds between checks of the file. `on_reload` is called for each
    attempt with True for a catalog taken over, False for one refused (for a counter).
    """

    def __init__(
        self,
        path: Path | str,
        log: structlog.stdlib.BoundLogger | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        prices: bool = True,
        interval: float = 1.0,
        on_reload: Callable[[bool], None] | None = None,
    ) -> None:
        self._path = Path(path)
        self._log = log or structlog.get_logger(module="catalog")
        self._environ = environ
        self._prices = prices
        self._interval = interval
        self._on_reload = on_reload
        self._subscribers: list[Subscriber] = []
        self._last = self._tried = self._stamp()
        self._current = load(self._path, environ=environ, prices=prices)
        self._refused: CatalogError | None = None

    @property
    def current(self) -> Catalog:
        """Returns the catalog in use. A request reads it once and stays with it."""
        return self._current

    @property
    def refused(self) -> CatalogError | None:
        """Returns the faults for which the file as it is now is not in use; None: it is in use."""
        return self._refused

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Calls back with (old, new) after each replacement. Returns a function that ends the subscription."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def run(self) -> None:
        """Checks the file every `interval` seconds until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self.check_file()

    async def check_file(self) -> None:
        """Checks the file once. A changed file is read at the second check at which it is the same: a writer in the
        middle of its work is let finish, since half a file may well be a good catalog with half the tenants."""
        stamp = await asyncio.to_thread(self._stamp)
        settled = stamp == self._last
        self._last = stamp
        if not settled or stamp == self._tried:
            return
        self._tried = stamp
        try:
            new = await asyncio.to_thread(load, self._path, environ=self._environ, prices=self._prices)
        except CatalogError as error:
            self._refused = error
            self._log.error(
                "catalog_refused", file=error.file, faults=str(error).splitlines(), kept=self._current.version
            )
            self._report_reload(good=False)
            return
        self._refused = None
        if new.version != self._current.version:
            self._replace(new)

    def _replace(self, new: Catalog) -> None:
        old, self._current = self._current, new
        self._log.info("catalog_replaced", file=str(self._path), old=old.version, new=new.version)
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(old, new)
            except Exception:
                # The others must be called all the same, and the next change must still be found.
                self._log.exception("catalog_subscriber_failed", new=new.version)
        self._report_reload(good=True)

    def _report_reload(self, *, good: bool) -> None:
        if self._on_reload is not None:
            self._on_reload(good)

    def _stamp(self) -> _Stamp | None:
        """Returns numbers that change with the file, followed through symbolic links (Kubernetes swaps `..data`);
        None: it is gone."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
