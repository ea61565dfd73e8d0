"""The bench's series, a small part of them: forecasts win where issue and bench say that they do."""

from __future__ import annotations

from pathlib import Path
from random import Random
from statistics import fmean

import pytest

from bench.forecasts import Score, made, read, score, summary
from bench.support.series import KINDS


@pytest.fixture(scope="module")
def scores() -> dict[str, list[Score]]:
    """Three series of each class, of 14 and 21 days."""
    return dict(made(3, [14, 21], []))


@pytest.mark.simulation
def test_no_class_is_forecast_worse_than_by_the_day_before(scores: dict[str, list[Score]]) -> None:
    """Mean error at most 1.05 of the seasonal-naive one's in every class, 0.95 on aggregates, 0.98 on clients."""
    assert set(scores) == {kind.name for kind in KINDS}
    for name, found in scores.items():
        assert fmean(one.error for one in found) <= 1.05, name
    for aggregate, most in ((True, 0.95), (False, 0.98)):
        chosen = [one for kind in KINDS if kind.aggregate is aggregate for one in scores[kind.name]]
        assert fmean(one.error for one in chosen) <= most


@pytest.mark.simulation
def test_intervals_are_sharp_and_cover_what_they_say(scores: dict[str, list[Score]]) -> None:
    """Pinball loss at most 0.85 of the seasonal-naive one's, and 72 to 88 % of the hours inside (few series)."""
    everything = [one for found in scores.values() for one in found]
    assert fmean(one.pinball for one in everything) <= 0.85
    assert 0.72 <= fmean(one.coverage for one in everything) <= 0.88


def test_series_of_ones_own_are_read_and_scored(tmp_path: Path) -> None:
    """Hours that are missing had no use; a file of another form is refused with its line."""
    path = tmp_path / "own.csv"
    hours = KINDS[0].make(Random(1), 10)
    rows = "\n".join(f"mine,{100 + i},{amount}" for i, amount in enumerate(hours) if i % 50)
    path.write_text(f"name,hour,amount\n{rows}\n")
    (own,) = read(path).values()
    assert len(own) == 239
    assert own[49] == 0.0
    one = score(own)
    assert one is not None
    assert summary([one])["series"] == 1
    path.write_text("name,hour\nmine,1\n")
    with pytest.raises(ValueError, match="line 2"):
        read(path)
