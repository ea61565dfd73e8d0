"""Rehabilitation: a blocked target comes back in steps, each taken on the evidence of calls at the one before. Pure.

Apart from a breaker's ramp, which takes seconds and goes by what traffic there is: whoever was blocked by a person,
or by rule, has to show that it works.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, lgamma, log

from msgspec.structs import replace

from libs.types import ErrorClass
from services.health.domain.degraded import fails_beyond_chance
from services.health.domain.evidence import Outcome
from services.health.domain.setting import ModeSetting
from services.health.domain.target import Mode

#: Shares of its usual traffic, the last of which is all.
STEPS = (0.05, 0.25, 0.5, 1.0)
#: The success rate that is asked for, and the chance allowed that a target below it is let on.
SUCCESS_RATE, FALSE_PASS = 0.9, 0.05
#: Calls from which it is decided: of 29 that all succeed the one-sided 95 % bound of the rate is 0.902.
LEAST_CALLS = 29
_NO_FAILURES = frozenset(
    {
        ErrorClass.INVALID_REQUEST,
        ErrorClass.CONTENT_REFUSED,
        ErrorClass.CONTEXT_TOO_LONG,
        ErrorClass.CANCELLED,
        ErrorClass.RATE_LIMITED,
        ErrorClass.UNSUPPORTED_HERE,
    }
)


def has_proved_itself(failures: int, calls: int) -> bool:
    """Returns True if so many calls succeeded that the rate is at least SUCCESS_RATE by the one-sided exact bound
    (Clopper and Pearson 1934): at that rate as few failures or fewer have a chance of at most FALSE_PASS."""
    rate = 1 - SUCCESS_RATE
    if calls < LEAST_CALLS or failures > rate * calls:
        return False
    chance = 0.0
    for failed in range(failures + 1):
        ways = lgamma(calls + 1) - lgamma(failed + 1) - lgamma(calls - failed + 1)
        chance += exp(ways + failed * log(rate) + (calls - failed) * log(1 - rate))
    return chance <= FALSE_PASS


@dataclass(slots=True)
class Trial:
    """The calls to a target in one step, which is `version` of its mode."""

    version: int
    failures: int = 0
    calls: int = 0

    def record(self, outcome: Outcome) -> None:
        """Counts calls. A refused key counts as a failure too, since it may be why the target was blocked; what is of
        the request's or the caller's making does not, nor a rate limit."""
        failed = sum(count for error, count in outcome.failures.items() if error not in _NO_FAILURES)
        self.failures += failed
        self.calls += failed + outcome.successes


def next_setting(setting: ModeSetting, trial: Trial) -> ModeSetting | None:
    """Returns the mode that follows from the calls of a step: the next step, after the last one AUTOMATIC, BLOCKED
    where calls fail beyond chance; None: it is not decided yet."""
    if fails_beyond_chance(trial.failures, trial.calls, 1 - SUCCESS_RATE):
        return ModeSetting(Mode.BLOCKED, cause=setting.cause)
    if not has_proved_itself(trial.failures, trial.calls):
        return None
    if setting.share not in STEPS[:-1]:
        return ModeSetting()
    return replace(setting, share=STEPS[STEPS.index(setting.share) + 1])
