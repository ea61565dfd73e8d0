"""The table of handlers by method and path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from libs.http.call import HttpCall
from libs.http.errors import HttpError, printable

Handler = Callable[[HttpCall], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """A route. `path` as traces and metrics have it; a last part in braces stands for all that follows. `public`: for
    callers without a key too."""

    method: str
    path: str
    handler: Handler
    public: bool = False


class Routes:
    """A table of a few paths."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._by_start: dict[str, dict[str, Route]] = {}
        for route in routes:
            self._by_start.setdefault(route.path.partition("{")[0], {})[route.method] = route
        self._open_ended = [route.path.partition("{")[0] for route in routes if "{" in route.path]

    def find(self, method: str, path: str) -> Route | HttpError:
        """Returns the route. Raises HttpError, 404 or 405, where there is none. A route for GET answers HEAD too."""
        routes = self._by_start.get(path)
        if routes is None:
            start = next(
                (start for start in self._open_ended if path.startswith(start) and path != start), ""
            )
            routes = self._by_start.get(start)
        shown = printable(path)
        if routes is None:
            return HttpError(404, f"Unknown request URL: {method} {shown}.", code="unknown_url")
        route = routes.get("GET" if method == "HEAD" else method)
        if route is None:
            text = f"Not allowed method for this URL: {method} {shown}."
            allowed = {"allow": ",".join(sorted(routes))}
            return HttpError(405, text, code="method_not_supported", headers=allowed)
        return route
