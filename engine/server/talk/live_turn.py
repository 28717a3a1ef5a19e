"""A turn while it is answered: whom it is said to, what has come so far, and who reads along.

It belongs to the engine, not to a reader: whoever leaves may come back, from another browser too, and is
told all that came meanwhile. Several may read along at once; each has its own pace, for what has come is held
until the turn is over (a model's longest answer is what bounds it).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from store.config.judging.talk_config import TalkModel, without_defaults
from store.contract.errors import TunebenchError
from store.db.records import to_json
from store.documents.data.row import Message
from store.documents.talk.conversation import TurnAnswer
from store.documents.talk.talk_events import EndReason, HostEvent, TalkEvent, TalkFigures, TalkToken

ALIVE_SECONDS = (
    2.0  # of silence, after which a line says that nothing is wrong; a reader that left is noticed
)
KEEP_SECONDS = 5.0  # between two times that what has come is stored, for an engine that is killed


@dataclass
class TurnModel:
    """One model of a turn, and what came of it."""

    place: int
    choice: TalkModel
    name: str  # of the model
    label: str  # of its answer, which tells it from the others
    messages: list[Message]
    left_out: int
    problem: TunebenchError | None = None  # that it can't be asked at all
    tokens: list[TalkToken] = field(default_factory=list)
    reason: EndReason = "stopped"
    figures: TalkFigures | None = None
    error: TunebenchError | None = None

    def note(self, event: HostEvent) -> None:
        """Take in what the answer has come to."""
        if event["type"] == "token":
            token: TalkToken = {"text": event["text"], "logprob": event["logprob"], "top": event["top"]}
            self.tokens.append(token)
        elif event["type"] == "end":
            self.reason, self.figures = event["reason"], event["figures"]

    def kept(self, turn_id: str) -> TurnAnswer:
        """As it is stored."""
        return {
            "turn_id": turn_id,
            "place": self.place,
            "label": self.label,
            "model": without_defaults(self.choice),
            "text": "".join(token["text"] for token in self.tokens),
            "tokens": list(self.tokens),
            "reason": self.reason,
            "figures": self.figures,
            "error": self.error.to_dict() if self.error else None,
        }


class LiveTurn:
    """One turn, from when it is said until its answers are kept. `turn_id`: empty where nothing is kept.
    Used in the event loop of the server alone."""

    def __init__(self, turn_id: str, asked: list[TurnModel]) -> None:
        self.turn_id, self.asked = turn_id, asked
        self._events: list[TalkEvent] = []
        self._more = asyncio.Event()
        self._answers: list[asyncio.Task[None]] = []
        self.is_over = False  # its answers are kept
        if turn_id:
            self.tell({"type": "turn", "turn": turn_id, "labels": [model.label for model in asked]})

    def tell(self, event: TalkEvent) -> None:
        """Say something to all who read along, now and later."""
        self._events.append(event)
        self._wake()

    def stop(self) -> None:
        """No more of it is made; what had come is kept."""
        for answer in self._answers:
            answer.cancel()

    async def run(
        self, answer: Callable[[LiveTurn, TurnModel], Awaitable[None]], keep: Callable[[], None]
    ) -> None:
        """Have all models answer, and keep what they say: now and then, and when the last one has ended."""
        self._answers = [asyncio.create_task(self._ended(answer, model)) for model in self.asked]
        try:
            while (await asyncio.wait(self._answers, timeout=KEEP_SECONDS))[1]:
                if self.turn_id:
                    await asyncio.to_thread(keep)
        finally:
            self.stop()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(*self._answers, return_exceptions=True)
                try:
                    if self.turn_id:
                        await asyncio.to_thread(keep)
                finally:
                    self.is_over = True
                    self._wake()

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """All that was said, from the beginning, and what is said from now on, until the answers are kept."""
        sent = 0
        while True:
            more = self._more
            for event in self._events[sent:]:
                sent += 1
                yield _line(event)
            if sent < len(self._events):
                continue
            if self.is_over:
                return
            try:
                await asyncio.wait_for(more.wait(), ALIVE_SECONDS)
            except TimeoutError:
                yield _line({"type": "alive"})

    async def _ended(
        self, answer: Callable[[LiveTurn, TurnModel], Awaitable[None]], model: TurnModel
    ) -> None:
        """An answer, whose last event is `end` or `failed` however it ends."""
        try:
            await answer(self, model)
        except TunebenchError as error:
            model.reason, model.error = "failed", error
            self.tell({"type": "failed", "place": model.place, "error": error.to_dict()})
        except asyncio.CancelledError:
            self.tell({"type": "end", "place": model.place, "reason": "stopped"})
            raise

    def _wake(self) -> None:
        more, self._more = self._more, asyncio.Event()
        more.set()


def _line(event: TalkEvent) -> bytes:
    return to_json(event).encode() + b"\n"
