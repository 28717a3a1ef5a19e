"""The playground of the engine: who answers, what is waited for, what has the machine, and what is kept.

Models never take memory that a run is about to need; beside other jobs they wait. A turn is stored before the
first token of its answers, and is answered to its end whoever reads along.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil

from engine.playground.host_process import HostProcess, LiveTurn, TurnModel
from engine.server import registered_versions
from engine.server.local_launcher import Launcher
from engine.server.machine_access import check_addresses, check_keys_sent, check_named_sources
from engine.server.scheduler import holds_device, measure_memory
from store.core.errors import StateError, TunebenchError, from_dict
from store.core.home import Home
from store.core.job_kinds import ACTIVE
from store.core.processes import is_recent
from store.core.row_schemas import Message
from store.core.schemas import Job, Person
from store.db.database import Database, Queryable
from store.http.machine import GIB, read_gpus
from store.http.schemas import PlaygroundState
from store.jobs import job_queue
from store.people import settings
from store.playground import conversations
from store.playground.config import (
    MEMORY_SHORT,
    ChatRequest,
    ChatSettings,
    FollowTurn,
    NextTurn,
    TurnReference,
    drop_defaults,
)
from store.playground.schemas import ChatCommand, ChatEvent, Conversation
from store.runs import runs

# What has the machine while somebody talks, how much memory it leaves, and how much talking slows it.
#
# A run says what it will take at most before it starts; what it doesn't hold yet of that is still its own.
# So models may stand beside a run that has not reached its peak, and never take what it is about to need.
# Of other jobs nobody knows what they will take: models wait for their end.

RESERVE = GIB // 2  # that is left to everything else
MIN_STEPS = 5  # of a run with answers, and without, before their times are compared


@dataclass(frozen=True)
class MachineUse:
    """A job that has the machine, or is about to. `seconds_left`: by its own count, None where it has none;
    `spare`: bytes beyond what it may still take, None where nobody knows what that is."""

    job_id: str
    title: str
    seconds_left: float | None
    spare: int | None
    steps: float | None = None  # that it has trained


def find_machine_use(db: Queryable, devices: Sequence[str], held: int, gpu_held: int) -> MachineUse | None:
    """The job that models share the machine with or give way to: one that has a device or may begin, while
    none is free beside it. held: bytes of the models' process, which count as spare; gpu_held: of the GPU.
    """
    active = [job for job in job_queue.with_status(db, ACTIVE) if holds_device(job)]
    ready = [job for job in job_queue.list_waiting(db) if job.lane == "device" and job.ready]
    if len(active) + len(ready) < len(devices):
        return None
    own = devices[-1]
    job = next((job for job in active if job.device == own), active[0] if active else None)
    if job is None:
        job = job_queue.get_job(db, ready[0].job_id)
    spare = _estimate_spare_memory(db, job, own, gpu_held if own.startswith("cuda") else held)
    training = job.progress_unit == "steps" and job.progress_message == "Training"
    return MachineUse(job.job_id, job.title, job.eta_seconds, spare, job.progress_done if training else None)


def _estimate_spare_memory(db: Queryable, job: Job, device: str, held: int) -> int | None:
    most = runs.get_max_memory_gib(db, job.job_id)
    if most is None:
        return None
    if device.startswith("cuda"):
        gpu = next((gpu for gpu in read_gpus() if gpu.index == int(device.partition(":")[2] or 0)), None)
        if gpu is None or gpu.memory_used_gib is None or gpu.memory_total_gib is None:
            return None
        used = int(gpu.memory_used_gib * GIB) - held
        free, taken = int(gpu.memory_total_gib * GIB) - used, used
    else:
        free, taken = int(psutil.virtual_memory().available) + held, measure_memory(job.pid)
    return int(free - max(0, most * GIB - taken) - RESERVE)


class Slowdown:
    """How many times longer a step of one run takes while models answer, by the run's own steps."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self._last: tuple[float, float, bool] | None = None  # time, steps, whether models answered
        self._seen = {True: (0.0, 0.0), False: (0.0, 0.0)}  # seconds and steps, with answers and without

    def note(self, at: float, steps: float | None, answering: bool) -> None:
        """Take in how many steps the run has trained now, None while it does something else. What lies
        between two looks counts where both found models answering, or both found them silent."""
        if steps is None:
            self._last = None
            return
        before = self._last
        if before is None or before[2] != answering:
            self._last = (at, steps, answering)
        elif steps > before[1]:
            seconds, seen = self._seen[answering]
            self._seen[answering] = seconds + at - before[0], seen + steps - before[1]
            self._last = (at, steps, answering)

    @property
    def times(self) -> float | None:
        """None until enough steps were seen with answers and without."""
        (with_seconds, with_steps), (seconds, steps) = self._seen[True], self._seen[False]
        if min(with_steps, steps) < MIN_STEPS or seconds <= 0:
            return None
        return (with_seconds / with_steps) / (seconds / steps)


# The playground of the engine: who answers, what is waited for, and what is kept of it.
#
# Models are held by one talking process. Beside a run that says what memory it will take they answer with a
# share of the machine: behind its threads, and within what it leaves. Before every other job of the device
# lane, and where memory is short, the process is ended before the job is claimed, and whoever asks
# meanwhile is told what has the machine and for how long, and waits for as long as they like. Endpoints
# take nothing of the machine, so they have a process of their own that gives way to nobody.
#
# A turn is stored before the first token of its answers. It is answered to its end whoever reads along, or
# until somebody stops it; its answers are stored now and then, and when they end, however they end. Answers
# that are not kept end with their reader.

IDLE_SECONDS = 300.0  # after which models that nobody talks to are put away
POLL_SECONDS = 0.5  # between two looks at whether the machine is free
WAIT_REPORT_SECONDS = 5.0  # between two times that whoever waits is told for how long


class ConversationService:
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
        self.models = HostProcess(launcher, home, self._devices[-1], clock)  # jobs take the first free one
        self.endpoints = HostProcess(launcher, home, "cpu", clock)
        self._live: dict[str, LiveTurn] = {}  # turns that are being answered
        self._running: set[asyncio.Task[None]] = set()  # held, or they would be collected
        self._slowdown = Slowdown("")
        self._closed = False

    # -- the processes -----------------------------------------------------------------------------

    def step(self, now: float | None = None) -> None:
        """Before the scheduler claims jobs: share the machine with them or give way, and put away what nobody
        uses."""
        at = self._clock() if now is None else now
        process = self.models
        if process.pid is not None and (use := self._use()):
            self._stand_beside(use, at)
        elif process.shares and not process.answering:
            process.end(StateError("The run is over: the models are loaded anew, for the whole machine."))
        for held in (process, self.endpoints):
            if held.pid is not None and not held.answering and not is_recent(held.used_at, at, IDLE_SECONDS):
                held.end(StateError("Nobody talked for some minutes, so the models were put away."))

    def _stand_beside(self, use: MachineUse, at: float) -> None:
        """Share the machine with a job, or give way to it."""
        process = self.models
        if use.job_id != self._slowdown.job_id:
            self._slowdown = Slowdown(use.job_id)
        self._slowdown.note(at, use.steps, process.answering)
        if _can_fit(use, process):
            process.share()
            return
        process.end(
            StateError(
                f"“{use.title}” has the machine, so the models were put away.",
                fix="Ask again: the answer begins when that is over.",
            )
        )

    def close(self) -> None:
        """End both processes, as the engine stops."""
        self._closed = True
        for process in (self.models, self.endpoints):
            process.end(_build_stopped_error())

    def state(self) -> PlaygroundState:
        """How the process of the models stands."""
        process, use = self.models, self._use()
        return PlaygroundState(
            state="away" if process.pid is None else "ready",
            memory_bytes=process.memory_bytes(),
            gpu_bytes=process.gpu_bytes,
            loaded=process.loaded,
            machine_has=use.title if use else None,
            beside=use is not None and _can_fit(use, process),
            seconds_left=use.seconds_left if use else None,
            slowdown=self._slowdown.times if use and use.job_id == self._slowdown.job_id else None,
            answering=[turn.turn_id for turn in list(self._live.values()) if not turn.is_over],
        )

    def _use(self) -> MachineUse | None:
        """What the models share the machine with or give way to."""
        process = self.models
        return find_machine_use(
            self._database, self._devices, process.memory_bytes() or 0, process.gpu_bytes or 0
        )

    # -- what is asked -----------------------------------------------------------------------------

    async def generate(self, body: Mapping[str, object], person: Person) -> AsyncGenerator[bytes, None]:
        """The lines of the stream: the next turn of a conversation, one that is being answered from its
        beginning, or an answer to messages. Raises TunebenchError for what is refused before it begins."""
        if "follow" in body:
            followed = FollowTurn.parse(dict(body)).follow
            if followed in self._live:
                return self._live[followed].lines()
            await asyncio.to_thread(conversations.turn_of, self._database, followed)  # NotFoundError
            return _stream_nothing()
        if "conversation" in body:
            next_turn = NextTurn.parse(dict(body))
            turn_id, asked = await asyncio.to_thread(self._say, next_turn, person.name)
            return self._begin(LiveTurn(turn_id, asked)).lines()
        talk = ChatRequest.parse(dict(body))
        await asyncio.to_thread(check_addresses, self._database, self._home, talk)
        check_named_sources(talk, person, self._home)
        await asyncio.to_thread(check_keys_sent, self._database, talk, person)
        system: list[Message] = [{"role": "system", "content": talk.system}] if talk.system else []
        asked = await asyncio.to_thread(self._asked, talk, [*system, *talk.as_rows()])
        return _read_along(self._begin(LiveTurn("", asked)))

    async def stop(self, body: Mapping[str, object]) -> None:
        """End a turn where it is; one that is over is left alone."""
        if turn := self._live.get(TurnReference.parse(dict(body)).turn):
            turn.stop()

    def _begin(self, turn: LiveTurn) -> LiveTurn:
        if turn.turn_id:
            self._live[turn.turn_id] = turn
        running = asyncio.create_task(turn.run(self._answer, lambda: self._keep(turn)))
        self._running.add(running)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            self._live.pop(turn.turn_id, None)

        running.add_done_callback(ended)
        return turn

    def _say(self, turn: NextTurn, by: str) -> tuple[str, list[TurnModel]]:
        """Store the turn; its id, and whom it is said to."""
        at = self._clock()
        turn_id = job_queue.create_id("turn", at)
        with self._database.transaction() as tx:
            conversation = conversations.get_conversation(tx, turn.conversation)
            turns = conversations.path(tx, turn.conversation, turn.parent)
            conversations.add_turn(
                tx, turn_id, conversation, (turn.parent, turn.prompt), by, job_queue.to_utc(at)
            )
        settings = _parse_settings(conversation)
        asked = self._asked(settings, [])
        for one_model in asked:
            choice = one_model.choice
            speaker = conversations.Speaker(
                drop_defaults(choice), choice.sampling.model_dump(), one_model.place
            )
            history, left_out = conversations.build_messages(turns, speaker, settings.system)
            one_model.messages = [*history, {"role": "user", "content": turn.prompt}]
            one_model.left_out = left_out
        return turn_id, asked

    def _asked(self, settings: ChatSettings, messages: list[Message]) -> list[TurnModel]:
        """Each model with its run by id. One that is gone keeps its place, with its problem."""
        choices, names, problems = list(settings.models), dict[str, str](), dict[int, TunebenchError]()
        for place, choice in enumerate(settings.models):
            try:
                if not choice.run:
                    model = registered_versions.pin_version(self._database, self._home, choice.model)
                    choices[place] = choice.model_copy(update={"model": model})
                    continue
                run = runs.get_only_run(self._database, choice.run)
                choices[place] = choice.model_copy(update={"run": run.run_id})
                names[choice.run] = run.name
            except TunebenchError as error:
                problems[place] = error
        return [
            TurnModel(
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

    async def _answer(self, turn: LiveTurn, asked: TurnModel) -> None:
        """Tell what one model answers. Raises TunebenchError where it can't."""
        if asked.problem:
            raise asked.problem
        if asked.choice.endpoint:
            await self._tell(turn, asked, self.endpoints, None)
            return
        fits = True
        while True:
            use = await self._wait_for_machine(turn, asked.place, fits)
            if await self._tell(turn, asked, self.models, use):
                return
            fits = False

    async def _tell(
        self, turn: LiveTurn, asked: TurnModel, process: HostProcess, use: MachineUse | None
    ) -> bool:
        """One answer of a process, beside the job of `use` where there is one; False where memory is too
        short for the model beside that."""
        order: ChatCommand = {
            "do": "answer",
            "id": "",
            "model": asked.choice.model_dump(),
            "label": asked.name,
            "messages": asked.messages,
            "networks": settings.networks(self._database),
        }
        if use is not None and use.spare is not None:
            order["memory"] = use.spare
        async with contextlib.aclosing(process.answer(order, shares=use is not None)) as answer:
            async for event in answer:
                if event["type"] == "failed":
                    if use is not None and event["error"].get("field") == MEMORY_SHORT:
                        return False
                    raise from_dict(event["error"])
                asked.note(event)
                if event["type"] == "begin":
                    event["left_out"] = asked.left_out
                sent: ChatEvent = {name: value for name, value in event.items() if name != "id"}  # type: ignore[assignment]
                turn.tell({**sent, "place": asked.place})
        return True

    async def _wait_for_machine(self, turn: LiveTurn, place: int, fits: bool) -> MachineUse | None:
        """Until the machine is free, or shared with a run beside which models fit; that run. fits: False for
        a model that was too large for that."""
        told_at = float("-inf")
        while use := await asyncio.to_thread(self._use):
            if self._closed:
                raise _build_stopped_error()
            if fits and _can_fit(use, self.models):
                return use
            if time.monotonic() - told_at >= WAIT_REPORT_SECONDS:
                told_at = time.monotonic()
                turn.tell(
                    {
                        "type": "waiting",
                        "place": place,
                        "title": use.title,
                        "seconds_left": use.seconds_left,
                    }
                )
            await asyncio.sleep(POLL_SECONDS)
        return None

    def _keep(self, turn: LiveTurn) -> None:
        at = job_queue.to_utc(self._clock())
        with self._database.transaction() as tx:
            for model in turn.asked:
                conversations.answer(tx, model.kept(turn.turn_id), at)


async def _stream_nothing() -> AsyncGenerator[bytes, None]:
    """The lines of a turn that nobody answers any more: what is kept of it is read elsewhere."""
    for line in list[bytes]():
        yield line


async def _read_along(turn: LiveTurn) -> AsyncGenerator[bytes, None]:
    """The lines of a turn that ends with its reader."""
    try:
        async with contextlib.aclosing(turn.lines()) as lines:
            async for line in lines:
                yield line
    finally:
        turn.stop()


def _can_fit(use: MachineUse, process: HostProcess) -> bool:
    """Whether models may stand beside a job: it leaves more than what their process holds."""
    held = process.gpu_bytes if process.on_gpu else process.memory_bytes()
    return use.spare is not None and use.spare > (held or 0)


def _build_stopped_error() -> StateError:
    return StateError("The engine was stopped.", fix="Start it again, then ask again.")


def _parse_settings(conversation: Conversation) -> ChatSettings:
    return ChatSettings.parse(dict(conversation.settings))
