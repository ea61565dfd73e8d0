"""Bounds of texts and counts that several services take in, so that what one of them accepts no other refuses."""

from __future__ import annotations

from typing import Final

#: Characters of an id (of a request, an attempt, a reservation) and of a name (of a model, a content type, a
#: campaign), as the ledger keeps them.
MAX_ID: Final = 128
#: Tokens of one kind that an attempt may have used.
MAX_TOKENS: Final = 10**9
#: Characters of the reason that an operator gives.
MAX_REASON: Final = 500
