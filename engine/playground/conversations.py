"""The playground service of the engine: turns, answers, and sharing the machine with jobs.

One host process has the models loaded. Beside a run that declares its maximum memory, they answer with a
share of the machine: at lower priority than its threads, and within the memory that it leaves. Before any
other job of the device lane, and if memory is short, the process is ended before the job is claimed.
Requests made meanwhile wait as long as they like, and are told which job has the machine and for how long.
Endpoints need none of the machine, so they have a separate process that never gives way.

A turn is stored before the first token of its answers. It is answered to the end regardless of readers,
unless somebody stops it. Its answers are stored periodically and when they end, however they end. Answers
that are not stored end with their reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil

from engine.playground import text
from engine.playground.host_process import HostProcess, LiveTurn, TurnModel
from engine.server import registered_versions
from engine.server.local_launcher import Launcher
from engine.server.machine_access import check_addresses, check_keys_sent, check_named_sources
from engine.server.scheduler import holds_device, measure_memory
from store.core.errors import TunebenchError, from_dict
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
from store.playground.schemas import ChatCommand, ChatEvent
from store.runs import runs

# A run declares its maximum memory before it starts; what it has not allocated yet is reserved for it. So
# models may run beside a run that has not reached its peak without taking memory that it will need. The needs
# of other jobs are unknown: models wait for their end.

RESERVE = GIB // 2  # reserved for other programs
MIN_STEPS = 5  # minimum steps with and without answers to compare their times


@dataclass(frozen=True)
class MachineUse:
    """A job that uses the machine, or is about to.

    `seconds_left`: the job's own estimate, None if it has none. `spare`: bytes that the job will not need,
    None if unknown.
    """

    job_id: str
    title: str
    seconds_left: float | None
    spare: int | None
    steps: float | None = None  # steps trained


def find_machine_use(
    db: Queryable, devices: Sequence[str], used_bytes: int, used_gpu_bytes: int
) -> MachineUse | None:
    """Return the job that models share the machine with or give way to.

    It is one that has a device or may start, when no device is free beside it. used_bytes: bytes of the
    models' process, which count as spare; used_gpu_bytes: the same on the GPU.
    """
    active = [job for job in job_queue.with_status(db, ACTIVE) if holds_device(job)]
    ready = [job for job in job_queue.list_waiting(db) if job.lane == "device" and job.ready]
    if len(active) + len(ready) < len(devices):
        return None
    device = devices[-1]
    job = next((job for job in active if job.device == device), active[0] if active else None)
    if job is None:
        job = job_queue.get_job(db, ready[0].job_id)
    spare = _estimate_spare_memory(
        db, job, device, used_gpu_bytes if device.startswith("cuda") else used_bytes
    )
    training = job.progress_unit == "steps" and job.progress_message == "Training"
    return MachineUse(job.job_id, job.title, job.eta_seconds, spare, job.progress_done if training else None)


def _estimate_spare_memory(db: Queryable, job: Job, device: str, used_bytes: int) -> int | None:
    max_memory = runs.get_max_memory_gib(db, job.job_id)
    if max_memory is None:
        return None
    if device.startswith("cuda"):
        gpu = next((gpu for gpu in read_gpus() if gpu.index == int(device.partition(":")[2] or 0)), None)
        if gpu is None or gpu.memory_used_gib is None or gpu.memory_total_gib is None:
            return None
        used = int(gpu.memory_used_gib * GIB) - used_bytes
        free, allocated = int(gpu.memory_total_gib * GIB) - used, used
    else:
        free, allocated = int(psutil.virtual_memory().available) + used_bytes, measure_memory(job.pid)
    return int(free - max(0, max_memory * GIB - allocated) - RESERVE)


class Slowdown:
    """How many times longer a run's steps take while models answer."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self._last: tuple[float, float, bool] | None = None  # time, steps, whether models were answering
        self._totals = {True: (0.0, 0.0), False: (0.0, 0.0)}  # seconds and steps, with answers and without

    def record(self, at: float, steps: float | None, is_answering: bool) -> None:
        """Record the number of steps that the run has trained, None while it does something else.

        An interval counts if models were answering at both ends of it, or at neither.
        """
        if steps is None:
            self._last = None
            return
        last = self._last
        if last is None or last[2] != is_answering:
            self._last = (at, steps, is_answering)
        elif steps > last[1]:
            seconds, counted = self._totals[is_answering]
            self._totals[is_answering] = seconds + at - last[0], counted + steps - last[1]
            self._last = (at, steps, is_answering)

    @property
    def factor(self) -> float | None:
        """Slowdown factor, None until there are enough steps with and without answers."""
        (with_seconds, with_steps), (seconds, steps) = self._totals[True], self._totals[False]
        if min(with_steps, steps) < MIN_STEPS or seconds <= 0:
            return None
        return (with_seconds / with_steps) / (seconds / steps)


IDLE_SECONDS = 300.0  # idle time after which models are unloaded
POLL_SECONDS = 0.5  # interval of checks whether the machine is free
WAIT_REPORT_SECONDS = 5.0  # interval of messages to waiting readers


class ConversationService:
    """Service that answers conversations over one store."""

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
        self.models = HostProcess(launcher, home, self._devices[-1], clock)  # jobs take the first free device
        self.endpoints = HostProcess(launcher, home, "cpu", clock)
        self._live: dict[str, LiveTurn] = {}  # turns that are being answered
        self._running: set[asyncio.Task[None]] = set()  # protects them from garbage collection
        self._slowdown = Slowdown("")
        self._closed = False

    # -- the processes -----------------------------------------------------------------------------

    def step(self, now: float | None = None) -> None:
        """Share the machine with jobs or give way, before the scheduler claims jobs; unload idle models."""
        at = self._clock() if now is None else now
        process = self.models
        if process.pid is not None and (use := self._find_use()):
            self._share_machine(use, at)
        elif process.shares and not process.answering:
            process.stop(text.build_run_ended_error())
        for host in (process, self.endpoints):
            if host.pid is not None and not host.answering and not is_recent(host.used_at, at, IDLE_SECONDS):
                host.stop(text.build_idle_error())

    def _share_machine(self, use: MachineUse, at: float) -> None:
        """Share the machine with a job, or give way to it."""
        process = self.models
        if use.job_id != self._slowdown.job_id:
            self._slowdown = Slowdown(use.job_id)
        self._slowdown.record(at, use.steps, process.answering)
        if _can_fit(use, process):
            process.share()
            return
        process.stop(text.build_displaced_error(use.title))

    def close(self) -> None:
        """End both processes when the engine stops."""
        self._closed = True
        for process in (self.models, self.endpoints):
            process.stop(text.build_stopped_error())

    def state(self) -> PlaygroundState:
        """Return the state of the models' process."""
        process, use = self.models, self._find_use()
        return PlaygroundState(
            state="away" if process.pid is None else "ready",
            memory_bytes=process.measure_memory(),
            gpu_bytes=process.gpu_bytes,
            loaded=process.loaded,
            machine_has=use.title if use else None,
            beside=use is not None and _can_fit(use, process),
            seconds_left=use.seconds_left if use else None,
            slowdown=self._slowdown.factor if use and use.job_id == self._slowdown.job_id else None,
            answering=[turn.turn_id for turn in list(self._live.values()) if not turn.is_over],
        )

    def _find_use(self) -> MachineUse | None:
        """Return the job that the models share the machine with or give way to."""
        process = self.models
        return find_machine_use(
            self._database, self._devices, process.measure_memory() or 0, process.gpu_bytes or 0
        )

    # -- requests ----------------------------------------------------------------------------------

    async def generate(self, body: Mapping[str, object], person: Person) -> AsyncGenerator[bytes, None]:
        """Return the lines of the stream of a turn or of an answer to messages.

        The turn is the next one of a conversation, or one that is being answered, from its beginning.
        Raises TunebenchError for requests that are rejected before they begin.
        """
        if "follow" in body:
            followed_id = FollowTurn.parse(dict(body)).follow
            if followed_id in self._live:
                return self._live[followed_id].stream_lines()
            await asyncio.to_thread(
                conversations.turn_of, self._database, followed_id
            )  # raises NotFoundError
            return _stream_nothing()
        if "conversation" in body:
            next_turn = NextTurn.parse(dict(body))
            turn_id, models = await asyncio.to_thread(self._store_turn, next_turn, person.name)
            return self._start_turn(LiveTurn(turn_id, models)).stream_lines()
        request = ChatRequest.parse(dict(body))
        await asyncio.to_thread(check_addresses, self._database, self._home, request)
        check_named_sources(request, person, self._home)
        await asyncio.to_thread(check_keys_sent, self._database, request, person)
        system: list[Message] = [{"role": "system", "content": request.system}] if request.system else []
        models = await asyncio.to_thread(self._resolve_models, request, [*system, *request.to_messages()])
        return _stream_to_reader(self._start_turn(LiveTurn("", models)))

    async def stop(self, body: Mapping[str, object]) -> None:
        """Stop a turn; does nothing if it has ended."""
        if turn := self._live.get(TurnReference.parse(dict(body)).turn):
            turn.stop()

    def _start_turn(self, turn: LiveTurn) -> LiveTurn:
        if turn.turn_id:
            self._live[turn.turn_id] = turn
        answering = asyncio.create_task(turn.run(self._answer, lambda: self._store_answers(turn)))
        self._running.add(answering)

        def forget(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            self._live.pop(turn.turn_id, None)

        answering.add_done_callback(forget)
        return turn

    def _store_turn(self, turn: NextTurn, by: str) -> tuple[str, list[TurnModel]]:
        """Store the turn; return its id and the models to answer it."""
        at = self._clock()
        turn_id = job_queue.create_id("turn", at)
        with self._database.transaction() as tx:
            conversation = conversations.get_conversation(tx, turn.conversation)
            turns = conversations.path(tx, turn.conversation, turn.parent)
            conversations.add_turn(
                tx, turn_id, conversation, (turn.parent, turn.prompt), by, job_queue.to_utc(at)
            )
        settings = ChatSettings.parse(dict(conversation.settings))
        models = self._resolve_models(settings, [])
        for turn_model in models:
            choice = turn_model.choice
            speaker = conversations.Speaker(
                drop_defaults(choice), choice.sampling.model_dump(), turn_model.place
            )
            history, left_out = conversations.build_messages(turns, speaker, settings.system)
            turn_model.messages = [*history, {"role": "user", "content": turn.prompt}]
            turn_model.left_out = left_out
        return turn_id, models

    def _resolve_models(self, settings: ChatSettings, messages: list[Message]) -> list[TurnModel]:
        """Return each model, with its run by id. A missing one stays in the list, with its problem."""
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
                choices[place].get_label(names.get(model.run, "")),
                label,
                messages,
                0,
                problems.get(place),
            )
            for place, (model, label) in enumerate(
                zip(settings.models, settings.list_labels(names), strict=True)
            )
        ]

    # -- the stream --------------------------------------------------------------------------------

    async def _answer(self, turn: LiveTurn, model: TurnModel) -> None:
        """Stream the answer of one model. Raises TunebenchError if it can't answer."""
        if model.problem:
            raise model.problem
        if model.choice.endpoint:
            await self._stream_answer(turn, model, self.endpoints, None)
            return
        can_share = True
        while True:
            use = await self._wait_for_machine(turn, model.place, can_share)
            if await self._stream_answer(turn, model, self.models, use):
                return
            can_share = False

    async def _stream_answer(
        self, turn: LiveTurn, model: TurnModel, process: HostProcess, use: MachineUse | None
    ) -> bool:
        """Stream one answer of a process, beside the job of `use` if given.

        Returns False if there is too little memory for the model beside that job.
        """
        order: ChatCommand = {
            "do": "answer",
            "id": "",
            "model": model.choice.model_dump(),
            "label": model.name,
            "messages": model.messages,
            "networks": settings.networks(self._database),
        }
        if use is not None and use.spare is not None:
            order["memory"] = use.spare
        async with contextlib.aclosing(process.stream_answer(order, shares=use is not None)) as answer:
            async for event in answer:
                if event["type"] == "failed":
                    if use is not None and event["error"].get("field") == MEMORY_SHORT:
                        return False
                    raise from_dict(event["error"])
                model.update(event)
                if event["type"] == "begin":
                    event["left_out"] = model.left_out
                public_event: ChatEvent = {name: value for name, value in event.items() if name != "id"}  # type: ignore[assignment]
                turn.send({**public_event, "place": model.place})
        return True

    async def _wait_for_machine(self, turn: LiveTurn, place: int, can_share: bool) -> MachineUse | None:
        """Wait until the machine is free, or can be shared with a job, which is returned.

        can_share: False for a model that turned out to be too large to share.
        """
        reported_at = float("-inf")
        while use := await asyncio.to_thread(self._find_use):
            if self._closed:
                raise text.build_stopped_error()
            if can_share and _can_fit(use, self.models):
                return use
            if time.monotonic() - reported_at >= WAIT_REPORT_SECONDS:
                reported_at = time.monotonic()
                turn.send(
                    {
                        "type": "waiting",
                        "place": place,
                        "title": use.title,
                        "seconds_left": use.seconds_left,
                    }
                )
            await asyncio.sleep(POLL_SECONDS)
        return None

    def _store_answers(self, turn: LiveTurn) -> None:
        at = job_queue.to_utc(self._clock())
        with self._database.transaction() as tx:
            for model in turn.models:
                conversations.save_answer(tx, model.build_answer(turn.turn_id), at)


async def _stream_nothing() -> AsyncGenerator[bytes, None]:
    """Yield the lines of a turn that is no longer being answered: none, as its answers are read elsewhere."""
    for line in list[bytes]():
        yield line


async def _stream_to_reader(turn: LiveTurn) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a turn that is stopped when its reader leaves."""
    try:
        async with contextlib.aclosing(turn.stream_lines()) as lines:
            async for line in lines:
                yield line
    finally:
        turn.stop()


def _can_fit(use: MachineUse, process: HostProcess) -> bool:
    """Return whether models may run beside a job: it leaves more memory than their process uses."""
    used_bytes = process.gpu_bytes if process.on_gpu else process.measure_memory()
    return use.spare is not None and use.spare > (used_bytes or 0)
