"""The playground of the engine: who answers, what is waited for, and what is kept of it.

Models are held by one talking process, which gives way to training: as soon as a job of the device lane may
start and no device is free beside it, the process is ended before the job is claimed, and whoever asks
meanwhile is told what has the machine, and waits for as long as they like. Endpoints take nothing of the
machine, so they have a process of their own that gives way to nobody.

A turn is stored before the first token of its answers, and each answer when it ends, however it ends: by
itself, by somebody who stopped it, or by a browser that went away.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from engine.launchers import Launcher
from engine.server.acts.chosen_addresses import check_addresses
from engine.server.acts.named_sources import check_sources_named
from engine.server.acts.sent_keys import check_keys_sent
from engine.server.scheduling import registered
from engine.server.scheduling.scheduler import holds_device
from engine.server.talk.talk_process import TalkProcess
from store.config.judging.talk_config import NextTurn, Talk, TalkModel, TalkSettings, without_defaults
from store.contract.errors import StateError, TunebenchError, from_dict
from store.contract.home import Home
from store.contract.states import ACTIVE
from store.contract.steady_clock import is_recent
from store.db.database import Database
from store.db.records import to_json
from store.documents.data.row import Message
from store.documents.tables.person import Person
from store.documents.talk.conversation import Conversation, TurnAnswer
from store.documents.talk.talk_events import (
    EndReason,
    HostEvent,
    PlaygroundState,
    TalkEvent,
    TalkFigures,
    TalkOrder,
    TalkToken,
)
from store.queries import conversations, jobs, settings
from store.queries.runs import runs

IDLE_SECONDS = 300.0  # after which models that nobody talks to are put away
LOOK_SECONDS = 0.5  # between two looks at whether the machine is free
ALIVE_SECONDS = (
    2.0  # of silence, after which a line says that nothing is wrong; a reader that left is noticed
)
BEHIND = 64  # events that a reader may lag behind


@dataclass
class _Asked:
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
            "tokens": self.tokens,
            "reason": self.reason,
            "figures": self.figures,
            "error": self.error.to_dict() if self.error else None,
        }


class Talking:
    """Answers over one store."""

    def __init__(
        self,
        database: Database,
        launcher: Launcher,
        home: Home,
        devices: Sequence[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._devices, self._clock = database, list(devices), clock
        self._home = home
        self.models = TalkProcess(launcher, home, self._devices[-1], clock)  # jobs take the first free one
        self.endpoints = TalkProcess(launcher, home, "cpu", clock)
        self._closed = False

    # -- the processes -----------------------------------------------------------------------------

    def step(self, now: float | None = None) -> None:
        """Before the scheduler claims jobs: give way to them, and put away what nobody uses."""
        at = self._clock() if now is None else now
        if self.models.pid is not None and (title := self._machine_has()):
            self.models.end(
                StateError(
                    f"“{title}” has the machine, so the models were put away.",
                    fix="Ask again: the answer begins when that is over.",
                )
            )
        for process in (self.models, self.endpoints):
            if process.pid is not None and not is_recent(process.used_at, at, IDLE_SECONDS):
                process.end(StateError("Nobody talked for some minutes, so the models were put away."))

    def close(self) -> None:
        """End both processes, as the engine stops."""
        self._closed = True
        for process in (self.models, self.endpoints):
            process.end(_stopped())

    def state(self) -> PlaygroundState:
        """How the process of the models stands."""
        process = self.models
        return {
            "state": "away" if process.pid is None else "ready",
            "memory_bytes": process.memory_bytes(),
            "gpu_bytes": process.gpu_bytes,
            "loaded": process.loaded,
            "machine_has": self._machine_has() or None,
        }

    def _machine_has(self) -> str:
        """What the models give way to: a job on a device, or one that may begin, while none is free beside
        it; else empty."""
        active = [job for job in jobs.with_status(self._database, ACTIVE) if holds_device(job)]
        ready = [job for job in jobs.waiting(self._database) if job["lane"] == "device" and job["ready"]]
        wanting = [job["title"] for job in (*active, *ready)]
        return wanting[0] if len(wanting) >= len(self._devices) else ""

    # -- what is asked -----------------------------------------------------------------------------

    async def generate(self, body: Mapping[str, object], person: Person) -> AsyncGenerator[bytes, None]:
        """The lines of the stream: the next turn of a conversation, or an answer to messages. Raises
        TunebenchError for what is refused before it begins."""
        if "conversation" in body:
            turn = NextTurn.parse(dict(body))
            turn_id, asked = await asyncio.to_thread(self._say, turn, person["name"])
            return self._lines(asked, turn_id)
        talk = Talk.parse(dict(body))
        await asyncio.to_thread(check_addresses, self._database, self._home, talk)
        check_sources_named(talk, person, self._home)
        await asyncio.to_thread(check_keys_sent, self._database, talk, person)
        system: list[Message] = [{"role": "system", "content": talk.system}] if talk.system else []
        return self._lines(await asyncio.to_thread(self._asked, talk, [*system, *talk.as_rows()]), "")

    def _say(self, turn: NextTurn, by: str) -> tuple[str, list[_Asked]]:
        """Store the turn; its id, and whom it is said to."""
        at = self._clock()
        turn_id = jobs.new_id("turn", at)
        with self._database.transaction() as tx:
            conversation = conversations.get_conversation(tx, turn.conversation)
            turns = conversations.path(tx, turn.conversation, turn.parent)
            conversations.say(tx, turn_id, conversation, (turn.parent, turn.prompt), by, jobs.utc(at))
        settings = _settings_of(conversation)
        asked = self._asked(settings, [])
        for one_model in asked:
            choice = one_model.choice
            speaker = conversations.Speaker(
                without_defaults(choice), choice.sampling.model_dump(), one_model.place
            )
            history, left_out = conversations.messages_for(turns, speaker, settings.system)
            one_model.messages = [*history, {"role": "user", "content": turn.prompt}]
            one_model.left_out = left_out
        return turn_id, asked

    def _asked(self, settings: TalkSettings, messages: list[Message]) -> list[_Asked]:
        """Each model with its run by id. One that is gone keeps its place, with its problem."""
        choices, names, problems = list(settings.models), dict[str, str](), dict[int, TunebenchError]()
        for place, choice in enumerate(settings.models):
            try:
                if not choice.run:
                    model = registered.fixed(self._database, self._home, choice.model)
                    choices[place] = choice.model_copy(update={"model": model})
                    continue
                run = runs.one_run(self._database, choice.run)
                choices[place] = choice.model_copy(update={"run": run["run_id"]})
                names[choice.run] = run["name"]
            except TunebenchError as error:
                problems[place] = error
        return [
            _Asked(
                place,
                choices[place],
                choices[place].named(names.get(model.run, "")),
                label,
                messages,
                0,
                problems.get(place),
            )
            for place, (model, label) in enumerate(zip(settings.models, settings.labels(names), strict=True))
        ]

    # -- the stream --------------------------------------------------------------------------------

    async def _lines(self, asked: list[_Asked], turn_id: str) -> AsyncGenerator[bytes, None]:
        events: asyncio.Queue[TalkEvent] = asyncio.Queue(BEHIND)
        tasks = [asyncio.create_task(self._answer(one_model, events)) for one_model in asked]
        going = len(tasks)
        try:
            if turn_id:
                yield _line({"type": "turn", "turn": turn_id})
            while going:
                try:
                    event = await asyncio.wait_for(events.get(), ALIVE_SECONDS)
                except TimeoutError:
                    event = {"type": "alive"}
                going -= event["type"] in ("end", "failed")
                yield _line(event)
        finally:
            with anyio.CancelScope(shield=True):
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                if turn_id:
                    await asyncio.to_thread(self._keep, asked, turn_id)

    async def _answer(self, asked: _Asked, events: asyncio.Queue[TalkEvent]) -> None:
        """Put the events of one model into the queue; the last is `end` or `failed`."""
        place = asked.place
        try:
            if asked.problem:
                raise asked.problem
            if not asked.choice.endpoint:
                await self._wait_for_machine(place, events)
            process = self.endpoints if asked.choice.endpoint else self.models
            order: TalkOrder = {
                "do": "answer",
                "id": "",
                "model": asked.choice.model_dump(),
                "label": asked.name,
                "messages": asked.messages,
                "networks": settings.networks(self._database),
            }
            async with contextlib.aclosing(process.answer(order)) as answer:
                async for event in answer:
                    if event["type"] == "failed":
                        asked.reason, asked.error = "failed", from_dict(event["error"])
                    asked.note(event)
                    if event["type"] == "begin":
                        event["left_out"] = asked.left_out
                    sent: TalkEvent = {name: value for name, value in event.items() if name != "id"}  # type: ignore[assignment]
                    await events.put({**sent, "place": place})
        except TunebenchError as error:
            asked.reason, asked.error = "failed", error
            await events.put({"type": "failed", "place": place, "error": error.to_dict()})

    async def _wait_for_machine(self, place: int, events: asyncio.Queue[TalkEvent]) -> None:
        announced = ""
        while title := await asyncio.to_thread(self._machine_has):
            if title != announced:
                await events.put({"type": "waiting", "place": place, "title": title})
            if self._closed:
                raise _stopped()
            announced = title
            await asyncio.sleep(LOOK_SECONDS)

    def _keep(self, asked: list[_Asked], turn_id: str) -> None:
        at = jobs.utc(self._clock())
        with self._database.transaction() as tx:
            for one_model in asked:
                conversations.answer(tx, one_model.kept(turn_id), at)


def _stopped() -> StateError:
    return StateError("The engine was stopped.", fix="Start it again, then ask again.")


def _settings_of(conversation: Conversation) -> TalkSettings:
    return TalkSettings.parse(dict(conversation["settings"]))


def _line(event: TalkEvent) -> bytes:
    return to_json(event).encode() + b"\n"
