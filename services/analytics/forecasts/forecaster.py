"""The use case: reads the history, then forecasts on a thread, one question at a time."""

from __future__ import annotations

import asyncio

from services.analytics.forecasts.answer import Answer, answer
from services.analytics.forecasts.history import UseHistory, history_of
from services.analytics.forecasts.question import Question


class Forecaster:
    """Answers questions. A question may compute for seconds, so the loop goes on meanwhile and others wait their
    turn."""

    def __init__(self, history: UseHistory) -> None:
        self._history = history
        self._turn = asyncio.Lock()

    async def forecast(self, question: Question) -> Answer:
        """Forecasts. Raises InvalidArgument, FailedPrecondition, Unavailable, DeadlineExceeded."""
        first, end = question.hours
        rows = await self._history.hours(first, end, question.parts, question.read_filters)
        async with self._turn:
            return await asyncio.to_thread(lambda: answer(question, history_of(rows, first, end)))
