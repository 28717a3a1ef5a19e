"""Commands of improvements: begin, decide, resume, stop and schedule."""

from __future__ import annotations

from collections.abc import Callable

from engine.registry.version_commands import AliasCommands
from engine.retraining.initiation import ImprovementStarter, find_run_and_dataset, resolve_sources
from engine.retraining.steps import describe_current_version
from engine.server.command import ActivitySubject, Command
from store.core.errors import ConfigError, ConflictError, ForbiddenError, StateError
from store.core.job_kinds import ALIVE, RESUMABLE
from store.core.rights import RIGHTS
from store.core.schemas import Job, Person
from store.db.database import Database, Queryable, Transaction
from store.http.schemas import EmptyAnswer, StartedImprovement
from store.jobs import job_queue
from store.registry import gate_candidates, model_versions
from store.registry.config import AliasSnapshot, Promote
from store.retraining import improvements
from store.retraining import text as improvement_text
from store.retraining.config import (
    DecideImprovement,
    ImproveConfig,
    ImprovementReference,
    ImproveSchedule,
    UnscheduleImprovement,
)
from store.retraining.schemas import AT_WORK, RESUMED, Improvement, ImprovementFacts, ImprovementState

JOB_FACTS_BY_STATE: dict[ImprovementState, tuple[str, ...]] = {  # facts with the job ids of each step
    "gathering": ("gather_job",),
    "joining": ("join_job",),
    "training": ("run_id",),
    "registering": ("register_job",),
    "measuring": ("evaluation_jobs",),
}
OWN_FACTS = {"evaluation_jobs": "own_evaluation_jobs"}  # other jobs are only awaited


class ImproveCommands:
    """Commands of improvements; `requeue` puts a failed job back into the queue."""

    def __init__(
        self,
        database: Database,
        aliases: AliasCommands,
        beginning: ImprovementStarter,
        requeue: Callable[[Transaction, Job], None],
        clock: Callable[[], float],
    ) -> None:
        self.database, self.aliases, self.beginning = database, aliases, beginning
        self.requeue, self.clock = requeue, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        named = ImprovementReference
        return {
            "begin_improvement": Command(
                ImproveConfig, self.begin, _find_model_subject, makes_work=True, by_person=True
            ),
            "decide_improvement": Command(
                DecideImprovement, self.decide, _find_decision_subject, by_person=True
            ),
            "resume_improvement": Command(
                named, self.resume, _find_improvement_subject, makes_work=True, by_person=True
            ),
            "stop_improvement": Command(named, self.stop, _find_improvement_subject, by_person=True),
            "schedule_improvement": Command(
                ImproveSchedule, self.schedule, _find_model_subject, by_person=True
            ),
            "unschedule_improvement": Command(
                UnscheduleImprovement, self.unschedule, _find_model_subject, by_person=True
            ),
        }

    def begin(self, config: ImproveConfig, person: Person) -> StartedImprovement:
        """Begin an improvement, whose steps the engine runs. Raises ConfigError that names the field."""
        with self.database.transaction() as tx:
            improvement = self.beginning.begin(tx, config, (person.person_id, person.name))
        return {"improvement_id": improvement.improvement_id, "improvement": improvement.name}

    # -- decision -----------------------------------------------------------------------------------

    def decide(self, body: DecideImprovement, person: Person) -> EmptyAnswer:
        """Promote the improvement's version, subject to the alias's gate too, or decline it.

        Raises StateError with the outcome of failed checks, ConfigError for a missing reason, and
        ConflictError if the alias moved.
        """
        improvement = improvements.get(self.database, body.improvement)
        if not body.promote:
            return self._decline(body, improvement, person)
        self._check_decidable(self.database, improvement)
        version, alias = improvement.facts["version"], improvement.alias
        candidate = gate_candidates.get_candidate(self.database, version, alias)
        if describe_current_version(candidate) != improvement.facts.get("holder"):
            now = describe_current_version(candidate) or "no version"
            raise ConflictError(
                f"{alias} is now {now}, but {version} was compared with "
                f"{improvement.facts.get('holder') or 'none'}.",
                fix="The comparison runs again automatically; decide once it is done.",
            )
        overridden = self._check_measured(improvement, body, person)
        reason = body.reason or improvement.facts["gate"].sentence

        def ended(tx: Transaction) -> None:
            present = improvements.get(tx, improvement.improvement_id)
            self._check_decidable(tx, present)
            note = f"{reason} (though: {present.facts['gate'].sentence})" if overridden else reason
            self._end(tx, present, "promoted", person, note)

        standing = candidate.holder.version if candidate.holder else None
        promote = Promote(
            version=version,
            alias=alias,
            reason=reason[:2_000],
            override=body.override,
            seen=AliasSnapshot(version=standing),
        )
        self.aliases.promote(promote, person, beside=ended, decided=True)
        return {}

    def _decline(self, body: DecideImprovement, improvement: Improvement, person: Person) -> EmptyAnswer:
        if not body.reason.strip():
            raise ConfigError(
                "Declining a version takes a reason.",
                fix="Give the reason in a sentence; it is recorded.",
                field="reason",
            )
        with self.database.transaction() as tx:
            present = improvements.get(tx, improvement.improvement_id)
            self._check_decidable(tx, present)
            self._end(tx, present, "declined", person, body.reason)
        return {}

    def _check_decidable(self, db: Queryable, improvement: Improvement) -> None:
        if improvement.state != "deciding":
            words = improvement_text.STATES[improvement.state]
            raise StateError(
                f"{improvement.name} is not waiting for a decision: {words.title}.", fix=words.waits
            )

    def _check_measured(self, improvement: Improvement, body: DecideImprovement, person: Person) -> bool:
        """Return whether the checks are overridden. Raises an error if they failed and can't be
        overridden.
        """
        report = improvement.facts["gate"]
        if report.answer == "passed":
            return False
        if not body.override:
            raise StateError(
                report.sentence,
                fix="Decline it, gather more rows, or ask an admin to override the checks with a reason.",
            )
        if "govern" not in RIGHTS[person.role]:
            raise ForbiddenError(
                f"A {person.role} can't override the checks of an improvement.",
                fix="Ask an admin to override them.",
            )
        if len(body.reason.split()) < 2:
            raise ConfigError(
                f"The reason {body.reason!r} is too short to override the checks.",
                fix="Explain in a sentence why promoting it is right; the reason is recorded.",
                field="reason",
            )
        return True

    def _end(
        self, tx: Transaction, improvement: Improvement, state: ImprovementState, person: Person, note: str
    ) -> None:
        at = job_queue.to_utc(self.clock())
        improvements.end(tx, improvement.improvement_id, state, at, person.name, note[:2_000])

    # -- resume and stop ----------------------------------------------------------------------------

    def resume(self, body: ImprovementReference, person: Person) -> EmptyAnswer:
        """Resume a failed improvement at the step that failed, or gather again for one that waits for rows.

        Failed jobs run again. From then on, the improvement acts on behalf of the person who resumed it.
        """
        with self.database.transaction() as tx:
            improvement = improvements.get(tx, body.improvement)
            step = improvement.failed_at
            if improvement.state not in RESUMED or step is None:
                raise StateError(
                    f"{improvement.name} has not failed and is not waiting for rows.",
                    fix="There is nothing to resume.",
                )
            for other in improvements.of_model(tx, improvement.model_id):
                if other.state in AT_WORK and other.alias == improvement.alias:
                    raise StateError(
                        f"{other.name} is already in progress.", fix="Promote, decline or stop it first."
                    )
            if improvement.state == "waiting":
                improvements.drop_facts(tx, improvement.improvement_id, "gather_job", "rows")
            else:
                for fact in JOB_FACTS_BY_STATE.get(step, ()):
                    self._again(tx, improvement, fact)
            improvements.set_facts(
                tx,
                improvement.improvement_id,
                resumed_by=person.person_id,
                resumed_by_name=person.name,
            )
            improvements.set_state(tx, improvement.improvement_id, step, job_queue.to_utc(self.clock()))
        return {}

    def _again(self, tx: Transaction, improvement: Improvement, fact: str) -> None:
        """Requeue the failed jobs of a step; deleted ones are created again.

        Gathering is always repeated, as the alias may have moved, or a run that it compares with may be
        deleted.
        """
        job_ids = _list_job_ids(improvement.facts, fact)
        present = {job.job_id: job for job in job_queue.with_ids(tx, job_ids)}
        if fact == "gather_job":
            present = {name: job for name, job in present.items() if job.status not in RESUMABLE}
        for job in present.values():
            if job.status in RESUMABLE:
                self.requeue(tx, job)
        if len(present) < len(job_ids):
            improvements.drop_facts(tx, improvement.improvement_id, fact)

    def stop(self, body: ImprovementReference, person: Person) -> EmptyAnswer:
        """Stop an active or failed improvement; its own jobs are cancelled, and what they made is kept."""
        at = self.clock()
        with self.database.transaction() as tx:
            improvement = improvements.get(tx, body.improvement)
            if improvement.state not in (*AT_WORK, *RESUMED):
                raise StateError(f"{improvement.name} has ended already.", fix="There is nothing to stop.")
            for fact in (OWN_FACTS.get(fact, fact) for fact in JOB_FACTS_BY_STATE.get(improvement.state, ())):
                for job in job_queue.with_ids(tx, _list_job_ids(improvement.facts, fact)):
                    if job.status in ALIVE:
                        job_queue.stop(tx, job, at)
            self._end(tx, improvement, "stopped", person, "")
        return {}

    # -- schedule -----------------------------------------------------------------------------------

    def schedule(self, config: ImproveSchedule, person: Person) -> EmptyAnswer:
        """Schedule improvements of a model. Raises ConfigError that names the field."""
        with self.database.transaction() as tx:
            model = model_versions.get_model(tx, config.model)
            _, dataset = find_run_and_dataset(tx, model.model_id, config)
            config = config.model_copy(update={"rows": resolve_sources(tx, config, dataset)})
            by = person.person_id, person.name
            at = job_queue.to_utc(self.clock())
            improvements.set_schedule(tx, model.model_id, config, by, at)
        return {}

    def unschedule(self, body: UnscheduleImprovement, person: Person) -> EmptyAnswer:
        """Remove the schedule of a model. Raises StateError if there is none."""
        with self.database.transaction() as tx:
            model = model_versions.get_model(tx, body.model)
            if not improvements.end_schedule(tx, model.model_id):
                raise StateError(f"Improvements of {model.name} have no schedule.")
        return {}


def _list_job_ids(facts: ImprovementFacts, fact: str) -> list[str]:
    named = facts.get(fact, [])
    return [named] if isinstance(named, str) else list(named)  # type: ignore[call-overload]


def _find_model_subject(
    db: Queryable, body: ImproveConfig | ImproveSchedule | UnscheduleImprovement, *_: Person
) -> ActivitySubject | None:
    model = model_versions.get_model(db, body.model)
    return ActivitySubject("model", model.model_id, model.name)


def _find_improvement_subject(db: Queryable, body: ImprovementReference, *_: Person) -> ActivitySubject:
    improvement = improvements.get(db, body.improvement)
    name = model_versions.get_model(db, improvement.model_id).name
    return ActivitySubject("model", improvement.model_id, name, improvement.name)


def _find_decision_subject(db: Queryable, body: DecideImprovement, *_: Person) -> ActivitySubject:
    subject = _find_improvement_subject(db, body)
    word = "yes" if body.promote else "no"
    why = f": {body.reason}" if body.reason else ""
    return subject._replace(detail=f"{word} to {subject.detail}{why}"[:300])
