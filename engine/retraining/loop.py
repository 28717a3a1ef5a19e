"""Loop that advances improvements, as a function of time: `ImprovementLoop.step(now)`.

Every action is one transaction: a job is queued, or its result is recorded, together with the facts that
say so. A step that runs again, in the next engine or after a crash, therefore does nothing twice. An
improvement that can't continue fails at its step with a message and never blocks the others.
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

BUSY_SECONDS = 1.0  # between steps while an improvement is in progress
IDLE_SECONDS = 10.0
REPEATS = 30  # consecutive unexpected errors after which an improvement fails
WAITING = ("labelling", "deciding")  # for people: nothing is queued on anyone's behalf
SCHEDULE_SECONDS = 60.0  # between checks of the schedules


class ImprovementQueues(NamedTuple):
    """Services that queue the work of each step."""

    launching: JobSubmission
    gates: GateCommands
    registering: RegisterCommands


class ImprovementLoop:
    """Loop over the improvements of one store; `wake` tells the scheduler that there may be a job."""

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
        self._held_up: dict[str, int] = {}  # consecutive failed steps

    def step(self, now: float | None = None) -> float:
        """Advance each improvement; return the seconds until the next step is needed."""
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
        """Run an action and catch its errors, so that they don't block other improvements."""
        try:
            act()
        except Exception as error:
            if self._troubled.get(owner) != repr(error):  # log once, not at every step
                log.error("The improvement of %s is held up", owner, exc_info=error)
            self._troubled[owner] = repr(error)
            self._held_up[owner] = self._held_up.get(owner, 0) + 1
            return
        self._troubled.pop(owner, None)
        self._held_up.pop(owner, None)

    def _give_up(self, improvement: Improvement, at: float) -> None:
        """Fail an improvement with repeated unexpected errors, which nobody would notice otherwise."""
        problem = self._troubled[improvement.improvement_id]
        trouble: ErrorDocument = {
            "error": "UnexpectedError",
            "message": f"This step failed {REPEATS} times with an unexpected error: {problem[:500]}.",
            "fix": "See the engine log for the traceback. Resume once the cause is fixed.",
        }
        self._fail(improvement, trouble, at)

    def _advance(self, improvement: Improvement, at: float) -> None:
        """Run the current step once; an error of a job or of the step fails the improvement."""
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
            if present and present.state == improvement.state:  # else it was stopped in the meantime
                improvements.set_state(
                    tx,
                    improvement.improvement_id,
                    "failed",
                    job_queue.to_utc(at),
                    failed_at=improvement.state,
                    trouble=trouble,
                )
                notify_webhook(tx, improvement, "failed", trouble["message"], at)
