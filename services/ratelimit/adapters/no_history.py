"""The history where there is no ledger to rebuild from."""

from __future__ import annotations

from services.ratelimit.domain.limits import Limit


class NoHistory:
    """Satisfies `ports.SpendHistory` where no analytics is configured: a window whose counter was lost starts at
    zero, which `window_seeded` in the log and `ratelimit_windows_seeded` show."""

    async def spent(self, limit: Limit, now: float) -> int | None:
        return None
