"""Blacklisting by rule: what is refused again and again, and nothing of it answered, is blocked. Pure.

Why: each router sets aside a refused key, a spent quota or a retired model by itself, and tries it again and again,
as it should while that may pass. When it acts: after refusals of one cause over ten minutes without an answer between
them, in the whole fleet; of keys and quotas for a provider, of a name that the provider does not know for a model. A
key that the free endpoint accepts meanwhile is not the cause. Recovery: a refused key once the free endpoint has
accepted one since, ten minutes after the block at the earliest; the others after a day. Then it is rehabilitated in
steps, and blocked again where it still refuses; or by a person, at any time. First start: nothing is known, and ten
minutes have to pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from libs.types import ErrorClass
from services.health.domain.evidence import Outcome
from services.health.domain.target import BlockCause

#: Refusals in a row, and the seconds that they must span.
LEAST_REFUSALS, SPAN = 5, 600.0
#: Seconds from a block until it may be tried again.
RETRY_SECONDS = {
    BlockCause.KEY_REFUSED: 600.0,
    BlockCause.QUOTA_GONE: 86_400.0,
    BlockCause.MODEL_GONE: 86_400.0,
}
_OF_PROVIDER = {
    ErrorClass.AUTHENTICATION: BlockCause.KEY_REFUSED,
    ErrorClass.QUOTA_EXHAUSTED: BlockCause.QUOTA_GONE,
}
_OF_MODEL = {ErrorClass.MODEL_NOT_FOUND: BlockCause.MODEL_GONE}


@dataclass(slots=True)
class Refusals:
    """Refusals of one target since its last answer. `since`, `last`: epoch seconds."""

    cause: BlockCause | None = None
    count: int = 0
    since: float = 0.0
    last: float = 0.0

    def record(self, now: float, outcome: Outcome, *, of_model: bool) -> None:
        """Counts calls to the target, or to one of its models. An answer ends the row, another cause begins one."""
        if outcome.successes:
            self.cause, self.count = None, 0
            return
        for error, count in outcome.failures.items():
            cause = (_OF_MODEL if of_model else _OF_PROVIDER).get(error)
            if cause is None or not count:
                continue
            if cause is not self.cause:
                self.cause, self.count, self.since = cause, 0, now
            self.count += count
            self.last = now

    def verdict(self, changed: float, key_accepted_at: float | None) -> BlockCause | None:
        """Returns the cause for which the target is to be blocked; None: there is none. `changed`: the instant at
        which its mode was set last; `key_accepted_at` as of `may_come_back`."""
        if self.count < LEAST_REFUSALS or self.last - self.since < SPAN or self.since <= changed:
            return None
        accepted = key_accepted_at is not None and key_accepted_at >= self.since
        return None if self.cause is BlockCause.KEY_REFUSED and accepted else self.cause


def may_come_back(cause: BlockCause, blocked_at: float, key_accepted_at: float | None, now: float) -> bool:
    """Returns True where a target that was blocked by rule is to be rehabilitated. `key_accepted_at`: the instant at
    which the free endpoint accepted a key last; None: never."""
    if now - blocked_at < RETRY_SECONDS[cause]:
        return False
    return cause is not BlockCause.KEY_REFUSED or (
        key_accepted_at is not None and key_accepted_at > blocked_at
    )
