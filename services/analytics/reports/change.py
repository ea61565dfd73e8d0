"""The change of costs against the period before, split into volume, mix and price."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

from libs.errors import FieldViolation, InvalidArgument
from services.analytics.reports.query import Group, GroupBy, Query
from services.analytics.reports.report import CostReport, CostRow
from services.analytics.reports.reports import Reports

#: Dimensions that rollups keep together with models.
_WITH_MODELS = {GroupBy.TENANT, GroupBy.CONTENT_TYPE, GroupBy.PROVIDER}


@dataclass(frozen=True, slots=True)
class Change:
    """Micro-USD. `volume` + `mix` + `price` is the change exactly."""

    before: int
    volume: int
    mix: int
    price: int


@dataclass(frozen=True, slots=True)
class ComparedCosts:
    """A report, and the change of each of its rows and of its total."""

    report: CostReport
    changes: Mapping[Group, Change]
    total: Change


@dataclass(frozen=True, slots=True)
class Cell:
    """Cost (micro-USD) and quantity (tokens) of one part of a whole."""

    cost: int = 0
    quantity: int = 0


_Key = TypeVar("_Key")


def split_change(before: Mapping[_Key, Cell], now: Mapping[_Key, Cell]) -> Change:
    """Splits the change of the summed cost of cells. Volume: the change of the summed quantity at the average price
    of before; price: what is bought now in cells that were bought before, at the difference of their prices; mix: the
    rest. Without a quantity before or now there is only volume."""
    cost_before = sum(cell.cost for cell in before.values())
    change = sum(cell.cost for cell in now.values()) - cost_before
    quantity_before = sum(cell.quantity for cell in before.values())
    quantity = sum(cell.quantity for cell in now.values())
    if not quantity_before or not quantity:
        return Change(cost_before, change, 0, 0)
    volume = round((quantity - quantity_before) * cost_before / quantity_before)
    price = 0.0
    for key, cell in now.items():
        was = before.get(key)
        if was is not None and was.quantity and cell.quantity:
            price += cell.cost - cell.quantity * was.cost / was.quantity
    return Change(cost_before, volume, change - volume - round(price), round(price))


def period_before(query: Query) -> tuple[float, float]:
    """Returns the period before the query's: as many calendar months or days of its zone where it is whole ones, else
    as long a time; epoch seconds."""
    zone = ZoneInfo(query.time_zone)
    since, until = (datetime.fromtimestamp(at, zone) for at in (query.since, query.until))
    midnight = since.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if (
        midnight.timestamp() != query.since
        or until.replace(hour=0, minute=0, second=0, microsecond=0) != until
    ):
        return max(0.0, 2 * query.since - query.until), query.since
    if since.day == until.day == 1:
        months = 12 * (until.year - since.year) + until.month - since.month
        index = 12 * since.year + since.month - 1 - months
        start = since.replace(year=max(1970, index // 12), month=index % 12 + 1)
    else:
        start = datetime.combine(since.date() - (until.date() - since.date()), since.timetz())
    return max(0.0, start.timestamp()), query.since


async def compare_costs(reports: Reports, query: Query) -> ComparedCosts:
    """Returns the costs with their changes. Raises as `Reports.costs`; InvalidArgument for a query with buckets."""
    if query.interval is not None:
        raise InvalidArgument(
            [FieldViolation("query.interval", "must not be set to compare with the period before")]
        )
    report = await reports.costs(query)
    cells_of = replace(query, group_by=_cells_by(query), page_size=None, after=None)
    since, until = period_before(query)
    groups = len(query.group_by)
    now = _cells(await reports.costs(cells_of), query, groups)
    before = _cells(await reports.costs(replace(cells_of, since=since, until=until)), query, groups)
    changes = {
        row.group: split_change(before.get(row.group, {}), now.get(row.group, {})) for row in report.rows
    }
    return ComparedCosts(report, changes, split_change(_all(before), _all(now)))


def _cells_by(query: Query) -> tuple[GroupBy, ...]:
    by_model = GroupBy.MODEL in query.group_by or query.campaign is not None
    if by_model or not set(query.group_by) <= _WITH_MODELS or len(query.group_by) == 3:
        return query.group_by
    return (*query.group_by, GroupBy.MODEL)


Cells = Mapping[Group, Mapping[tuple[str, ...], Cell]]


def _cells(report: CostReport, query: Query, groups: int) -> Cells:
    found: defaultdict[Group, dict[tuple[str, ...], Cell]] = defaultdict(dict)
    for row in report.rows:
        label = row.group.values[-1:] if query.group_by_label is not None else ()
        group = Group((*row.group.values[:groups], *label))
        found[group][row.group.values] = _cell(row)
    return found


def _all(cells: Cells) -> Mapping[tuple[str, ...], Cell]:
    return {key: cell for of_group in cells.values() for key, cell in of_group.items()}


def _cell(row: CostRow) -> Cell:
    return Cell(row.cost_micro_usd, row.usage.input_tokens + row.usage.output_tokens)
