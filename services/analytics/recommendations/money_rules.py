"""Rules that save money: a cheaper model as good, shorter prompts, answers not cut, hedges that do not pay."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import median
from typing import Final, TypeVar

from msgspec.structs import replace

from libs.types import Usage
from services.analytics.recommendations.evidence import Evidence, ModelUse, TenantUse
from services.analytics.recommendations.market import Market
from services.analytics.recommendations.recommendation import (
    Fact,
    FactKind,
    Proposal,
    Recommendation,
    RecommendationKind,
    RiskKind,
    Subject,
)
from services.analytics.recommendations.saving import HORIZON_DAYS, ExpectedSaving, expect_saving

#: Shares of all spend below which a saving is not worth a person's minute.
WORTHWHILE: Final = 0.005
#: Prompts are long at so many times the median of the other tenants, of whom there must be so many.
LONG_PROMPTS: Final = 2.0
MIN_PEERS: Final = 3
#: Requests of a tenant below which its mean prompt says little.
MIN_REQUESTS: Final = 100
#: Answers are as long as the others' up to this factor.
_AS_LONG: Final = 1.1
#: The share of answers that may be cut.
CUT_SHARE: Final = 0.05
#: A hedge pays where it gives at least this share of the answers, and is judged after so many.
HEDGE_SHARE: Final = 0.1
MIN_HEDGES: Final = 100
#: Standard normal quantile of 95 %.
_LIKELY: Final = 1.645

_Row = TypeVar("_Row")


def cheaper_models(
    evidence: Evidence, market: Market, failing: Collection[tuple[str, str]] = ()
) -> Iterator[Recommendation]:
    """Yields for each content type and model the cheapest that is declared as good. A day's saving is paired: the
    same tokens at the prices of both; where the other's answers were longer, so many more. `failing`: (content type,
    provider) that nobody should be sent to."""
    by_model: defaultdict[tuple[str, str], list[ModelUse]] = defaultdict(list)
    for use in evidence.models:
        by_model[use.content_type, use.model].append(use)
    for (content_type, name), uses in sorted(by_model.items()):
        model = market.catalog.models.get(name)
        if model is None:
            continue
        best: Recommendation | None = None
        calls, usage = sum(use.calls for use in uses), sum((use.usage for use in uses), Usage())
        quality = market.declared_quality(model, content_type)
        for other in market.replacements(model, content_type):
            if (content_type, other.provider) in failing:
                continue
            longer = _longer_answers(uses, by_model.get((content_type, other.id), []))
            instead = market.cost(other, calls, _lengthened(usage, longer))
            now = market.cost(model, calls, usage)
            if instead is None or now is None or instead >= now:
                continue
            daily = [0.0] * evidence.days
            for use in uses:
                mine = market.cost(model, use.calls, use.usage) or 0.0
                theirs = market.cost(other, use.calls, _lengthened(use.usage, longer)) or 0.0
                daily[use.day] += mine - theirs
            saving = _worthwhile(daily, evidence)
            if saving is None or (best is not None and best.saving.p50 >= saving.band.p50):
                continue
            rating = market.declared_quality(other, content_type)
            best = _recommendation(
                RecommendationKind.CHEAPER_MODEL,
                Subject("", content_type, model.provider, model.name),
                Proposal(market.policies_with(frozenset({model.id}), content_type), other.id),
                saving,
                {
                    FactKind.CALLS: calls,
                    FactKind.SPENT: now,
                    FactKind.SPENT_INSTEAD: instead,
                    FactKind.QUALITY: quality or 0.0,
                    FactKind.QUALITY_INSTEAD: rating or 0.0,
                },
                RiskKind.QUALITY_IS_DECLARED,
                RiskKind.TOKENS_MAY_DIFFER,
            )
        if best is not None:
            yield best


def _longer_answers(mine: Sequence[ModelUse], theirs: Sequence[ModelUse]) -> float:
    """Returns how many times as many tokens the other model's answers had, on days when both answered, at least 1.
    Shorter ones are not believed: it may have been given the easier requests."""
    days = {use.day for use in mine} & {use.day for use in theirs}
    means = []
    for uses in (mine, theirs):
        chosen = [use for use in uses if use.day in days]
        calls, tokens = sum(use.calls for use in chosen), sum(use.usage.output_tokens for use in chosen)
        if calls < MIN_REQUESTS or not tokens:
            return 1.0
        means.append(tokens / calls)
    return max(1.0, means[1] / means[0])


def _lengthened(usage: Usage, factor: float) -> Usage:
    output, reasoning = round(usage.output_tokens * factor), round(usage.reasoning_tokens * factor)
    return replace(usage, output_tokens=output, reasoning_tokens=reasoning)


def long_prompts(evidence: Evidence, market: Market) -> Iterator[Recommendation]:
    """Yields tenants whose prompts for a content type are much longer than the other tenants' and bring no longer
    answers. A day's saving: the tokens above the others' median, at the mean price of input for the content type, or
    at what the tenant pays for a token of any kind where that is less."""
    totals: defaultdict[str, dict[str, list[TenantUse]]] = defaultdict(lambda: defaultdict(list))
    for use in evidence.tenants:
        totals[use.content_type][use.tenant].append(use)
    for content_type, tenants in sorted(totals.items()):
        means = {
            tenant: (sum(u.input_tokens for u in uses) / count, sum(u.output_tokens for u in uses) / count)
            for tenant, uses in tenants.items()
            if (count := sum(u.requests for u in uses)) >= MIN_REQUESTS
        }
        price = _input_price(evidence, market, content_type)
        if len(means) <= MIN_PEERS or not price:
            continue
        for tenant, (prompt, answer) in sorted(means.items()):
            others = [mean for name, mean in means.items() if name != tenant]
            usual = median(mean for mean, _ in others)
            if prompt < LONG_PROMPTS * usual or answer > _AS_LONG * median(mean for _, mean in others):
                continue
            uses = tenants[tenant]
            tokens = sum(use.input_tokens + use.output_tokens for use in uses)
            paid = sum(use.cost for use in uses) / max(1, tokens)
            daily = [0.0] * evidence.days
            for use in uses:
                daily[use.day] += (use.input_tokens - use.requests * usual) * min(price, paid)
            saving = _worthwhile(daily, evidence)
            if saving is not None:
                yield _recommendation(
                    RecommendationKind.SHORTEN_PROMPTS,
                    Subject(tenant, content_type),
                    Proposal(tokens_per_request=round(usual)),
                    saving,
                    {
                        FactKind.REQUESTS: sum(use.requests for use in uses),
                        FactKind.TOKENS_PER_REQUEST: prompt,
                        FactKind.TOKENS_PER_REQUEST_OF_OTHERS: usual,
                    },
                    RiskKind.ANSWERS_MAY_CHANGE,
                )


def cut_answers(evidence: Evidence) -> Iterator[Recommendation]:
    """Yields tenants and content types of which many answers end at the limit of their tokens: they are paid for, and
    are not whole. A day's saving: what these answers cost."""
    requests: defaultdict[tuple[str, str], int] = defaultdict(int)
    for use in evidence.tenants:
        requests[use.tenant, use.content_type] += use.requests
    for (tenant, content_type), cuts in _by(evidence.details.cut, "tenant", "content_type").items():
        count, whole = sum(cut.answers for cut in cuts), requests[tenant, content_type]
        if whole < MIN_REQUESTS or count < CUT_SHARE * whole:
            continue
        saving = _worthwhile(_daily(evidence.days, ((cut.day, cut.cost) for cut in cuts)), evidence)
        if saving is not None:
            yield _recommendation(
                RecommendationKind.LENGTHEN_ANSWERS,
                Subject(tenant, content_type),
                Proposal(),
                saving,
                {FactKind.REQUESTS: whole, FactKind.ANSWERS_CUT: count},
                RiskKind.SPEND_MAY_GROW,
            )


def idle_hedges(evidence: Evidence) -> Iterator[Recommendation]:
    """Yields content types whose hedges hardly ever give the answer: the share of those that do is below HEDGE_SHARE
    with 95 %. A day's saving: what the attempts cost that lost."""
    for (content_type,), uses in _by(evidence.details.hedges, "content_type").items():
        hedges, won = sum(use.hedges for use in uses), sum(use.won for use in uses)
        if hedges < MIN_HEDGES or highest_share(won, hedges) >= HEDGE_SHARE:
            continue
        saving = _worthwhile(_daily(evidence.days, ((use.day, use.extra_cost) for use in uses)), evidence)
        if saving is not None:
            yield _recommendation(
                RecommendationKind.DROP_HEDGES,
                Subject("", content_type),
                Proposal(),
                saving,
                {FactKind.HEDGES: hedges, FactKind.HEDGES_THAT_ANSWERED: won},
                RiskKind.SLOW_ANSWERS,
            )


def highest_share(part: int, whole: int) -> float:
    """Returns the share that the true one is below with 95 % (Wilson, 1927)."""
    share, squared = part / whole, _LIKELY**2
    spread = _LIKELY * math.sqrt(share * (1 - share) / whole + squared / (4 * whole * whole))
    return (share + squared / (2 * whole) + spread) / (1 + squared / whole)


def _input_price(evidence: Evidence, market: Market, content_type: str) -> float | None:
    """Returns what a token of input costs on average, micro-USD; None: nobody knows."""
    cost, tokens = 0.0, 0
    for use in evidence.models:
        model = market.catalog.models.get(use.model)
        if use.content_type != content_type or model is None:
            continue
        usage = use.usage
        only = Usage(usage.input_tokens, 0, usage.cache_read_tokens, usage.cache_write_tokens)
        spent = market.cost(model, use.calls, only)
        if spent is not None:
            cost, tokens = cost + spent, tokens + usage.input_tokens
    return cost / tokens if tokens else None


def _by(rows: Sequence[_Row], *names: str) -> Mapping[tuple[str, ...], list[_Row]]:
    found: defaultdict[tuple[str, ...], list[_Row]] = defaultdict(list)
    for row in rows:
        found[tuple(getattr(row, name) for name in names)].append(row)
    return dict(sorted(found.items()))


def _daily(days: int, amounts: Iterator[tuple[int, int]]) -> list[float]:
    daily = [0.0] * days
    for day, amount in amounts:
        daily[day] += amount
    return daily


def _worthwhile(daily: Sequence[float], evidence: Evidence) -> ExpectedSaving | None:
    saving = expect_saving(daily)
    if saving is None or not saving.stands_out:
        return None
    spend = evidence.cost / evidence.days * HORIZON_DAYS
    return saving if saving.band.p50 >= WORTHWHILE * spend else None


def _recommendation(
    kind: RecommendationKind,
    subject: Subject,
    proposal: Proposal,
    saving: ExpectedSaving,
    facts: Mapping[FactKind, float],
    *risks: RiskKind,
) -> Recommendation:
    evidence = tuple(Fact(name, float(value)) for name, value in facts.items())
    return Recommendation(kind, subject, proposal, saving.band, saving.days, evidence, risks)
