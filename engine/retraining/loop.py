"""The chain of an improvement as one function of the time: `Improving.step(now)`.

Every move is one transaction: a job is queued, or its end is taken in, together with the facts that say so.
So a step that is done again, by the next engine or after it was killed, does nothing twice. What an
improvement can't go on with fails it at its step, in a sentence; one of them never holds up the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from engine.registry.gate_commands import GateCommands
from engine.registry.version_commands import RegisterCommands
from engine.retraining.initiation import ImprovementStarter, begin_when_due, check_actor, find_actor
from engine.retraining.steps import STEPS_BY_STATE, JobFailed, StepContext, notify_webhook
from engine.server.job_submission import JobSubmission
from store.core.errors import TunebenchError
from store.core.processes import is_recent
from store.core.schemas import ErrorDocument
from store.db.database import Database
from store.jobs import job_queue
from store.retraining import improvements
from store.retraining.schemas import Improvement

log = logging.getLogger(__name__)

BUSY_SECONDS = 1.0  # between two steps while an improvement is under way
IDLE_SECONDS = 10.0
REPEATS = 30  # steps in turn that go wrong unforeseen, until an improvement fails by that
WAITING = ("labelling", "deciding")  # for people: nothing is queued for anybody
SCHEDULE_SECONDS = 60.0  # between two looks at the schedules


class ImprovementQueues(NamedTuple):
    """What queues the work of each step."""

    launching: JobSubmission
    gates: GateCommands
    registering: RegisterCommands


class ImprovementLoop:
    """The improvements of one store. `wake` tells the scheduler that there may be a job for it."""

    def __init__(
        self,
        database: Database,
        work: ImprovementQueues,
        beginning: ImprovementStarter,
        *,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database, self.beginning, self.wake, self.clock = database, beginning, wake, clock
        self.links = StepContext(database, work.launching, work.gates, work.registering)
        self._looked_at = float("-inf")
        self._troubled: dict[str, str] = {}
        self._held_up: dict[str, int] = {}  # steps in turn that went wrong

    def step(self, now: float | None = None) -> float:
        """Bring each improvement as far as it can go; the seconds that may pass until the next step."""
        at = self.clock() if now is None else now
        under_way = improvements.in_states(self.database)
        for improvement in under_way:
            owner = improvement.improvement_id
            self._guarded(owner, partial(self._advance, improvement, at))
            if self._held_up.get(owner, 0) >= REPEATS:
                self._guarded(owner, partial(self._give_up, improvement, at))
        if not is_recent(self._looked_at, at, SCHEDULE_SECONDS):
            self._looked_at = at
            for schedule in improvements.list_schedules(self.database):
                act = partial(begin_when_due, self.database, self.beginning, schedule, at)
                self._guarded(schedule.model_id, act)
        return BUSY_SECONDS if any(each.state != "deciding" for each in under_way) else IDLE_SECONDS

    def _guarded(self, owner: str, act: Callable[[], None]) -> None:
        """One behind the border: what goes wrong with it must not hold up the others."""
        try:
            act()
        except Exception as error:
            if self._troubled.get(owner) != repr(error):  # once, not at every step
                log.error("The improvement of %s is held up", owner, exc_info=error)
            self._troubled[owner] = repr(error)
            self._held_up[owner] = self._held_up.get(owner, 0) + 1
            return
        self._troubled.pop(owner, None)
        self._held_up.pop(owner, None)

    def _give_up(self, improvement: Improvement, at: float) -> None:
        """What goes wrong at every step nobody would see otherwise."""
        problem = self._troubled[improvement.improvement_id]
        trouble: ErrorDocument = {
            "error": "UnexpectedError",
            "message": f"This step failed {REPEATS} times with an unexpected error: {problem[:500]}.",
            "fix": "See the engine log for the traceback. Resume once the cause is fixed.",
        }
        self._fail(improvement, trouble, at)

    def _advance(self, improvement: Improvement, at: float) -> None:
        """One move, or none; what it can't go on with fails it."""
        try:
            person_id, name = find_actor(improvement)
            if improvement.state not in WAITING:
                check_actor(self.database, person_id, name)
            with self.database.acting(person_id, lambda tx: None):
                STEPS_BY_STATE[improvement.state](self.links, improvement.improvement_id, at)
        except JobFailed as ended:
            self._fail(improvement, ended.error, at)
        except TunebenchError as error:
            self._fail(improvement, error.to_dict(), at)
        self.wake()

    def _fail(self, improvement: Improvement, trouble: ErrorDocument, at: float) -> None:
        with self.database.transaction() as tx:
            present = improvements.find(tx, improvement.improvement_id)
            if present and present.state == improvement.state:  # else somebody has stopped it meanwhile
                improvements.set_state(
                    tx,
                    improvement.improvement_id,
                    "failed",
                    job_queue.to_utc(at),
                    failed_at=improvement.state,
                    trouble=trouble,
                )
                notify_webhook(tx, improvement, "failed", trouble["message"], at)
