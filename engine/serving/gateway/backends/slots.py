"""Places at one backend: as many requests at once as it takes, a bounded queue behind them, copies last."""

from __future__ import annotations

import asyncio
from collections import deque

from engine.serving.gateway.requests.refusals import Refusal

_FIRST_GUESS = 1.0  # seconds of an answer, before any was measured
_SMOOTHING = 0.1


class Slots:
    """First come, first served; `low` ones (shadow copies) get a place when nobody else waits."""

    def __init__(self, size: int, queue: int) -> None:
        self.size, self.queue = size, queue
        self.running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._low: deque[asyncio.Future[None]] = deque()
        self._seconds = _FIRST_GUESS

    @property
    def waiting(self) -> int:
        """Requests that wait, copies left out."""
        return len(self._waiting)

    async def take(self, *, low: bool = False) -> None:
        """Wait for a place. Raises Refusal (429) where too many wait already."""
        if self.running < self.size and not self._waiting and not (low and self._low):
            self.running += 1
            return
        if not low and len(self._waiting) >= self.queue:
            wait = self._seconds * (len(self._waiting) + 1) / self.size
            raise Refusal(
                429,
                "queue_full",
                f"{len(self._waiting)} requests wait already, as many as may wait at this endpoint.",
                retry_after=min(wait, 120),
            )
        line = self._low if low else self._waiting
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            await turn  # whoever sets it has counted the place as taken
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            else:
                line.remove(turn)
            raise

    def give(self, seconds: float | None = None) -> None:
        """A place is free again; seconds: that it was used, for telling others how long they would wait."""
        if seconds is not None:
            self._seconds += _SMOOTHING * (seconds - self._seconds)
        self.running -= 1
        for line in (self._waiting, self._low):
            while line and self.running < self.size:
                turn = line.popleft()
                if not turn.done():
                    self.running += 1
                    turn.set_result(None)
