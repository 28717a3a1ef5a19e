"""Commands of registered models: create and delete versions, and move aliases through the gate, with reasons.

Checksums are verified and the gate is evaluated before the store is locked; the transaction that moves the
alias checks whether the alias or the gate has changed in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pydantic import Field

from engine.registry import gate_report, version_keeping
from engine.server import registered_versions
from engine.server.command import CREATED, ActivitySubject, Command
from engine.server.evaluation_commands import EvaluationCommands
from engine.server.file_removal import remove_noted
from engine.server.job_submission import JobSubmission
from engine.serving.endpoint_folders import check_not_served
from store.core.config import Config, Line
from store.core.errors import ConfigError, ConflictError, ForbiddenError, StateError
from store.core.home import Home
from store.core.model_schemas import ModelSummary, ModelVersion
from store.core.rights import RIGHTS
from store.core.schemas import Person
from store.core.version_folders import VersionDir
from store.db.database import Database, Queryable, Transaction
from store.evaluation.config import ModelSelection
from store.http.schemas import AliasMoved, EmptyAnswer, JobQueued, ReplacedVersion
from store.jobs import job_queue
from store.registry import gate_checks, model_versions
from store.registry.config import KIND, AliasReference, AliasSnapshot, DescribeModel, Promote, RegisterConfig
from store.registry.schemas import AliasMove, GateRecord, GateReport, MoveKind
from store.retraining import improvements
from store.retraining.improvements import check_not_improving


class VersionName(Config):
    """Body that names a version as NAME@NUMBER or NAME@ALIAS."""

    version: Line = Field(min_length=1, max_length=200)


class RegisterCommands:
    """Commands of versions; `launching` queues jobs."""

    def __init__(
        self,
        database: Database,
        launching: JobSubmission,
        evaluating: EvaluationCommands,
        clock: Callable[[], float],
    ) -> None:
        self.database, self.launching, self.evaluating, self.clock = database, launching, evaluating, clock
        self.home = launching.home

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "register_model": Command(
                RegisterConfig, self.register, CREATED, makes_work=True, by_person=True
            ),
            "describe_model": Command(DescribeModel, self.describe, _find_model_subject),
            "delete_version": Command(VersionName, self.delete, find_version_subject),
        }

    def register(self, config: RegisterConfig, person: Person) -> JobQueued:
        """Queue the registration of a run's model or a folder. Raises ConfigError and StateError that name
        the field.
        """
        with self.database.transaction() as tx:
            return {"job_id": self.queue(tx, config, person)}

    def queue(self, tx: Transaction, config: RegisterConfig, person: Person) -> str:
        """Queue the registration within the caller's transaction; return the job id."""
        if config.run:
            chosen = ModelSelection(run=config.run, checkpoint=config.checkpoint)
            run = self.evaluating.checked_run(tx, chosen)
            assert run is not None  # a run was named
            config = config.model_copy(update={"run": run.run_id})
        if config.base:
            base = registered_versions.pin_version(tx, self.home, config.base, "base")
            config = config.model_copy(update={"base": base})
        document = {"register": config.model_dump(), "created_by": vars(person)}
        return self.launching.queue_job(tx, KIND, f"Register {config.name}", document)

    def describe(self, body: DescribeModel) -> EmptyAnswer:
        """Set a model's intended use. Raises ConflictError if it was changed in the meantime."""
        with self.database.transaction() as tx:
            model = model_versions.get_model(tx, body.model)
            if body.seen is not None and model.description not in (body.seen, body.description):
                raise ConflictError(
                    f"The intended use of {model.name} was changed in the meantime.",
                    fix="Check the current text, then save again.",
                    field="description",
                )
            model_versions.set_description(tx, model.model_id, body.description)
        return {}

    def delete(self, body: VersionName) -> EmptyAnswer:
        """Delete a version and its files. Raises StateError if an alias, another version or an endpoint needs
        it.
        """
        with self.database.transaction() as tx:
            version = model_versions.get_version(tx, body.version)
            reference = registered_versions.format_reference(version)
            held = [
                line.alias
                for line in model_versions.aliases(tx, version.model_id)
                if line.version == version.version
            ]
            if held:
                raise StateError(
                    f"{reference} is {' and '.join(held)}, and can't be deleted.",
                    fix="Move the alias to another version first.",
                )
            check_not_improving(tx, reference, reference)
            if others := model_versions.list_on_base(tx, reference):
                raise StateError(
                    f"{others[0]} depends on {reference} and can't be loaded without it.",
                    fix=f"Delete {others[0]} first.",
                )
            folder = VersionDir(self.home.path / version.folder)
            check_not_served(tx, self.home, folder.path, reference)
            model_versions.delete(tx, version.model_id, version.version)
            job_queue.note_removals(tx, self.home, [folder.path, folder.seal])
        remove_noted(self.database, self.home)
        return {}


def _find_model_subject(db: Queryable, body: DescribeModel) -> ActivitySubject:
    model = model_versions.get_model(db, body.model)
    return ActivitySubject("model", model.model_id, model.name, "the intended use")


def find_version_subject(db: Queryable, body: VersionName, *_: Person) -> ActivitySubject:
    """Return the activity subject of a body that names a version."""
    version = model_versions.get_version(db, body.version)
    return ActivitySubject("model", version.model_id, version.name, f"version {version.version}")


class AliasChange(NamedTuple):
    """Move of an alias from one version number to another, None for no version."""

    alias: str
    kind: MoveKind
    reason: str
    before: int | None
    after: int | None
    gate: GateReport | None = None


class AliasCommands:
    """Commands of aliases."""

    def __init__(self, database: Database, home: Home, clock: Callable[[], float]) -> None:
        self.database, self.home, self.clock = database, home, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "promote": Command(Promote, self.promote, _find_promotion_subject, by_person=True),
            "move_back": Command(AliasReference, self.back, _find_alias_subject, by_person=True),
            "remove_alias": Command(AliasReference, self.remove, _find_alias_subject, by_person=True),
        }

    def promote(
        self,
        body: Promote,
        person: Person,
        beside: Callable[[Transaction], None] = lambda tx: None,
        *,
        decided: bool = False,
    ) -> AliasMoved:
        """Give a version an alias if its gate passes or an admin overrides it.

        `beside` runs in the same transaction. `decided` means that the version's improvement was decided
        by its own checks. Raises StateError with the gate's outcome, and ConflictError if the alias or the
        gate was changed in the meantime.
        """
        asked = model_versions.get_version(self.database, body.version)
        held = model_versions.alias_standing(self.database, asked.model_id, body.alias)
        gate = model_versions.gate(self.database, asked.model_id, body.alias)
        case = gate_checks.case(self.database, registered_versions.format_reference(asked), body.alias)
        report = gate_report.build_gate_report(*case)
        version_keeping.check_whole_files(self.home, asked)
        kind: MoveKind = "promoted"
        unpassed = "" if decided else _describe_unpassed_improvement(self.database, asked, body.alias, held)
        if report.answer != "passed" or unpassed:
            _check_override(unpassed or report.sentence, body, person)
            kind = "overridden"
        with self.database.transaction() as tx:
            version = model_versions.get_version(tx, case.reference)  # may have been deleted
            model = model_versions.get_model(tx, version.model_id)
            current = model_versions.alias_standing(tx, model.model_id, body.alias)
            self._check_seen(tx, model, body.alias, body.seen, current)
            if current != held:  # the gate was evaluated against it
                raise _build_conflict(tx, model, body.alias, current)
            _check_same_gate(gate, model_versions.gate(tx, model.model_id, body.alias), body.alias)
            if current == version.version:
                raise StateError(f"{case.reference} already has the alias {body.alias}.")
            change = AliasChange(body.alias, kind, body.reason, current, version.version, report)
            replaced = _find_current_version(tx, model, body.alias, current)
            self._move(tx, model, change, person)
            beside(tx)
        return {"alias": body.alias, "reference": case.reference, "replaced": replaced}

    def back(self, body: AliasReference, person: Person) -> AliasMoved:
        """Move the alias back to the version that had it before. Raises StateError if there is none."""
        earlier = self._earlier(self.database, body)
        version_keeping.check_whole_files(self.home, earlier)
        with self.database.transaction() as tx:
            model = model_versions.get_model(tx, body.model)
            current = model_versions.alias_standing(tx, model.model_id, body.alias)
            self._check_seen(tx, model, body.alias, body.seen, current)
            if self._earlier(tx, body).version != earlier.version:
                raise _build_conflict(tx, model, body.alias, current)
            change = AliasChange(body.alias, "back", body.reason, current, earlier.version)
            replaced = _find_current_version(tx, model, body.alias, current)
            self._move(tx, model, change, person)
        return {
            "alias": body.alias,
            "reference": registered_versions.format_reference(earlier),
            "replaced": replaced,
        }

    def _earlier(self, db: Queryable, body: AliasReference) -> ModelVersion:
        model = model_versions.get_model(db, body.model)
        number = model_versions.alias_before(db, model.model_id, body.alias)
        version = None if number is None else model_versions.find_version(db, model.model_id, number)
        if version is None:
            raise StateError(
                f"No other version of {model.name} had the alias {body.alias} before.",
                fix="Promote a version instead.",
            )
        return version

    def remove(self, body: AliasReference, person: Person) -> AliasMoved:
        """Remove an alias, so that no version has it."""
        with self.database.transaction() as tx:
            model = model_versions.get_model(tx, body.model)
            current = model_versions.alias_standing(tx, model.model_id, body.alias)
            if current is None:
                raise StateError(f"No version of {model.name} has the alias {body.alias}.")
            self._check_seen(tx, model, body.alias, body.seen, current)
            change = AliasChange(body.alias, "removed", body.reason, current, None)
            replaced = _find_current_version(tx, model, body.alias, current)
            self._move(tx, model, change, person)
        return {"alias": body.alias, "reference": None, "replaced": replaced}

    def _check_seen(
        self,
        tx: Transaction,
        model: ModelSummary,
        alias: str,
        seen: AliasSnapshot | None,
        current: int | None,
    ) -> None:
        """Raise ConflictError if the alias moved since the person saw it."""
        if seen is not None and seen.version != current:
            raise _build_conflict(tx, model, alias, current)

    def _move(self, tx: Transaction, model: ModelSummary, change: AliasChange, person: Person) -> None:
        at = self.clock()
        gate = change.gate
        line = AliasMove(
            move_id=job_queue.create_id("move", at),
            model_id=model.model_id,
            alias=change.alias,
            from_version=change.before,
            to_version=change.after,
            kind=change.kind,
            reason=change.reason,
            gate=gate if gate and gate.checks else None,
            moved_by=person.person_id,
            moved_by_name=person.name,
            moved_at=job_queue.to_utc(at),
        )
        model_versions.move_alias(tx, line)


def _describe_unpassed_improvement(db: Queryable, version: ModelVersion, alias: str, held: int | None) -> str:
    """Return why the version's improvement doesn't allow it to replace the version `held`, or "".

    An improvement that was stopped or declined has the same requirements as one in progress.
    """
    improvement = improvements.find_unpromoted(db, version, alias)
    if improvement is None or held == version.version:
        return ""
    name, reference = improvement.name, registered_versions.format_reference(version)
    report, ended = improvement.facts.get("gate"), improvement.state in ("stopped", "declined")
    who = f"{name} was {improvement.state}" if ended else name
    if report is not None and report.reference != reference:
        return f"{who}{', and' if ended else ''} has measured {report.reference} and not {reference}."
    if report is None and ended:
        return f"{who} before it had measured {reference}."
    if report is None or not (ended or improvement.state == "deciding"):
        return f"{name} has not measured {reference} yet."
    if report.answer != "passed":
        return f"{who}: {report.sentence}"
    beside, now = report.holder, f"{version.name}@{held}" if held is not None else None
    if beside == now:  # not the fact `holder`, which is set before anything is compared with it
        return ""
    return (
        f"{who}{', and' if ended else ''} compared {reference} with {beside or 'no other version'}, but"
        f" {now or 'no version'} is {alias} now."
    )


def _check_override(sentence: str, body: Promote, person: Person) -> None:
    """Raise an error for a gate that isn't passed, unless an admin overrides it with a reason."""
    if not body.override:
        raise StateError(
            sentence, fix="Check the gate for what is missing. An admin can override it with a reason."
        )
    if "govern" not in RIGHTS[person.role]:
        raise ForbiddenError(
            f"The role {person.role} can't override the gate of {body.alias}.", fix="Ask an admin."
        )
    if len(body.reason.split()) < 2:
        raise ConfigError(
            f"The reason {body.reason!r} is too short to override a gate.",
            fix="Give a one-sentence reason; it is recorded in the log.",
            field="reason",
        )


def _check_same_gate(judged: GateRecord | None, present: GateRecord | None, alias: str) -> None:
    """Raise ConflictError if the gate changed since the version was evaluated."""
    if present and (judged is None or present.config != judged.config):
        raise ConflictError(
            f"{present.changed_by_name} changed the gate of {alias} in the meantime.",
            fix="Check the gate again, then decide.",
            field="alias",
        )


def _find_current_version(
    tx: Transaction, model: ModelSummary, alias: str, current: int | None
) -> ReplacedVersion | None:
    """Return the version that has an alias, and who moved it; call before the alias moves."""
    last = next(iter(model_versions.alias_moves(tx, model.model_id, alias, limit=1)), None)
    if current is None or last is None:
        return None
    return {
        "reference": f"{model.name}@{current}",
        "moved_by_name": last.moved_by_name,
        "moved_at": last.moved_at.isoformat(),
    }


def _build_conflict(tx: Transaction, model: ModelSummary, alias: str, current: int | None) -> ConflictError:
    """Return an error that someone moved the alias in the meantime: who, when and why."""
    last = next(iter(model_versions.alias_moves(tx, model.model_id, alias, limit=1)), None)
    where = f"{model.name}@{current} is {alias}" if current is not None else f"No version is {alias}"
    who = "Someone"
    if last:
        who = f"On {last.moved_at:%d %b %Y at %H:%M} UTC {last.moved_by_name}"
    because = f", because: {last.reason.rstrip('.')}" if last else ""
    return ConflictError(
        f"{who} moved {alias} of {model.name}{because}.",
        fix=f"{where} now. Check it again, then decide.",
        field="alias",
    )


def _find_promotion_subject(db: Queryable, body: Promote, *_: Person) -> ActivitySubject:
    version = model_versions.get_version(db, body.version)
    detail = f"version {version.version} to {body.alias}: {body.reason}"
    return ActivitySubject("model", version.model_id, version.name, detail[:300])


def _find_alias_subject(db: Queryable, body: AliasReference, *_: Person) -> ActivitySubject:
    model = model_versions.get_model(db, body.model)
    detail = f"{body.alias}: {body.reason}"
    return ActivitySubject("model", model.model_id, model.name, detail[:300])
