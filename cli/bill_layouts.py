"""The columns of providers' exports of usage and costs, as of 2026."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: The names of a figure's columns: the first of them that a file has counts, of several in one the sum.
Names = Sequence[str | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of one export, by their names without spaces, dots and the like. `cached_apart`: prompt tokens are
    counted without the cached ones."""

    kind: str
    day: Sequence[str]
    model: Sequence[str]
    requests: Names = ()
    input: Names = ()
    output: Names = ()
    cache_read: Names = ()
    cache_write: Names = ()
    cost: Names = ()
    cached_apart: bool = False
    #: A column without which it is another export.
    mark: str = ""

    @property
    def counted(self) -> tuple[Names, ...]:
        """Returns the names of all figures, money last."""
        return self.requests, self.input, self.output, self.cache_read, self.cache_write, self.cost


_DAYS = ("date", "day", "usagedate", "timestamp")
_COSTS = ("costusd", "cost", "amountusd", "amount")
_REQUESTS = ("requests", "requestcount", "numrequests")
#: In order: the first whose day, model and one of whose counts a heading has is the one.
LAYOUTS = (
    Layout(
        "Anthropic usage",
        day=("usagedateutc",),
        model=("modelversion", "model"),
        input=("usageinputtokensnocache",),
        output=("usageoutputtokens",),
        cache_read=("usageinputtokenscacheread",),
        cache_write=(
            "usageinputtokenscachewrite",
            ("usageinputtokenscachewrite5m", "usageinputtokenscachewrite1h"),
        ),
        cached_apart=True,
    ),
    Layout("Anthropic costs", day=("usagedateutc",), model=("modelversion", "model"), cost=("costusd",)),
    Layout("OpenAI costs", day=("starttimeiso", "starttime"), model=("lineitem",), cost=("amountvalue",)),
    Layout(
        "OpenAI usage",
        day=("starttimeiso", "starttime"),
        model=("model",),
        requests=("nummodelrequests",),
        input=("inputtokens",),
        output=("outputtokens",),
        cache_read=("inputcachedtokens",),
    ),
    Layout(
        "OpenAI activity",
        day=("starttime", "usagedate", "date", "timestamp"),
        model=("model",),
        requests=("nrequests", "numrequests"),
        input=("ncontexttokenstotal", "contexttokens"),
        output=("ngeneratedtokenstotal", "generatedtokens"),
        cache_read=("ncachedcontexttokenstotal", "cachedcontexttokens"),
        cost=("amount",),
    ),
    Layout(
        "Google Cloud costs",
        day=("usagestartdate", "usagestarttime", "date", "day"),
        model=("skudescription",),
        cost=("cost", "unroundedcost", "costusd"),
    ),
    Layout(
        "Gemini usage",
        day=(*_DAYS, "starttime"),
        model=("model", "modelversion"),
        requests=_REQUESTS,
        input=("prompttokencount",),
        output=(("candidatestokencount", "thoughtstokencount"),),
        cache_read=("cachedcontenttokencount",),
        cost=_COSTS,
        mark="prompttokencount",
    ),
    Layout(
        "usage with input_tokens apart from cached ones",
        day=_DAYS,
        model=("model",),
        requests=_REQUESTS,
        input=("inputtokens",),
        output=("outputtokens",),
        cache_read=("cachereadinputtokens",),
        cache_write=("cachecreationinputtokens",),
        cost=_COSTS,
        cached_apart=True,
    ),
)
#: The same names without cached tokens of their own, or with those among the prompt's.
PLAIN = Layout(
    "usage",
    day=(*_DAYS, "created", "starttime"),
    model=("model",),
    requests=_REQUESTS,
    input=("inputtokens", "prompttokens"),
    output=("outputtokens", "completiontokens"),
    cache_read=("cachereadtokens", "cachedtokens", "inputcachedtokens"),
    cache_write=("cachewritetokens",),
    cost=_COSTS,
)
