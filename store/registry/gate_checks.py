"""The gate of a model's alias: kinds of checks with their fields and evidence, the gate, and a version's
case.

A gate is a list of checks, edited as a form or as YAML, all of which a version has to pass. Requiring all of
them only makes the gate stricter: a version that is truly beyond a limit passes the gate at most as often as
it passes that one check, so limits aren't corrected for the number of checks.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Self, cast, get_args

from pydantic import Field, field_validator, model_validator

from store.core.config import Config, Line
from store.core.errors import NotFoundError, TunebenchError
from store.core.features import find_title
from store.core.metric_table import METRICS
from store.core.model_fields import FieldDisplay
from store.core.schemas import ConfigDocument
from store.data import datasets
from store.data.filters import Filter
from store.db.named_query import named_query
from store.evaluation import evaluations
from store.evaluation.config import Part
from store.registry import gate_candidates, model_versions
from store.registry.config import AliasName, ModelName
from store.registry.gate_candidates import (
    Candidate,
    Check,
    find_bias_check,
    find_verdict,
    format_gather_command,
    format_version_reference,
    get_candidate,
)
from store.registry.gate_evidence import (
    add_ratings,
    count_tries,
    evaluations_of,
    find_on_rows,
    is_of_version,
    list_base_evaluations,
    list_rounds,
    pair_rows,
)
from store.registry.schemas import CheckInputs, FormParity, RatedRows, RowConfidence

if TYPE_CHECKING:
    from store.db.database import Queryable


class GateCheckConfig(Config):
    """A kind of check: its title, fields and evidence. It is judged by a judge of the same name in
    `engine.registry.gate_report`. A field without a title is labeled by its name in the form.
    """

    title: ClassVar[str]
    check: str

    def collect(self, db: Queryable, candidate: Candidate) -> CheckInputs:
        """Return the evidence on a version, or what is missing."""
        raise NotImplementedError


class OnRows(GateCheckConfig):
    """Rows for a check: the golden set."""

    dataset: Line = Field(
        min_length=1, max_length=120, title="Golden set", description="Name or id of the golden set"
    )
    part: Part = "test"
    where: Filter | None = Field(None, description="Only rows that match this filter")
    max_rows: int | None = Field(
        500, ge=1, title="Maximum rows", description="Size of a random sample; all if null"
    )


def _check_in_table(metric: str) -> str:
    if metric not in METRICS:
        raise ValueError(f"there is no metric {metric}; `tunebench metrics` lists them")
    return metric


class NotWorseThan(OnRows):
    """Paired comparison with the version that holds the alias, on the same rows."""

    title: ClassVar[str] = "Not worse on the golden set"
    check: Literal["not_worse_than"] = "not_worse_than"
    metric: Line = Field(max_length=80, description="Metric that measures both")
    margin: float = Field(0.02, ge=0, allow_inf_nan=False, description="Allowed decrease")

    _metric = field_validator("metric")(_check_in_table)

    def collect(self, db: Queryable, candidate: Candidate) -> CheckInputs:
        holder = candidate.holder
        if holder is None:
            return {"other": ""}
        return pair_rows(
            db, candidate, self.document(), format_version_reference(holder), evaluations_of(db, holder)
        )


class BetterOnTask(GateCheckConfig):
    """Gain over its base model, by the verdict of its run or on a data set."""

    title: ClassVar[str] = "Better on its task"
    check: Literal["better_on_task"] = "better_on_task"
    dataset: Line = Field(
        "", max_length=120, title="Golden set", description="Golden set; default: the run's verdict"
    )
    part: Part = "test"
    where: Filter | None = None
    max_rows: int | None = Field(500, ge=1, title="Maximum rows")
    metric: Line = Field("", max_length=80, description="With a data set: metric that measures both")
    least: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        title="Minimum",
        description="The lower confidence limit of the gain must be above this",
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.dataset) != bool(self.metric):
            raise ValueError("metric: give both a data set and a metric, or neither")
        if self.metric:
            _check_in_table(self.metric)
        return self

    def collect(self, db: Queryable, candidate: Candidate) -> CheckInputs:
        version = candidate.version
        base = version.base_model
        if self.dataset:
            if not base:
                return {"missing": "It is an imported full model, so its base is unknown."}
            return pair_rows(db, candidate, self.document(), base, list_base_evaluations(db, version))
        verdict = find_verdict(db, version)
        if verdict is None:
            instead = " Give this check a data set and a metric to measure it against its base."
            return {"missing": gate_candidates.explain_missing_verdict(version) + (instead if base else "")}
        gain = verdict.gain
        return {"gain": gain, "gain_unit": gain.unit if gain else "", "other": base or "its base"}


class QuestionAbove(GateCheckConfig):
    """Part of the gain due to a row's own prompt, by the verdict of its run. The shape of the answers is
    excluded, because any model learns it.
    """

    title: ClassVar[str] = "Gain from the question"
    check: Literal["question_above"] = "question_above"
    least: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        title="Minimum",
        description="The lower confidence limit of the question-dependent gain must be above this",
    )

    def collect(self, db: Queryable, candidate: Candidate) -> CheckInputs:
        verdict = find_verdict(db, candidate.version)
        if verdict is None:
            return {"missing": gate_candidates.explain_missing_verdict(candidate.version)}
        parts = verdict.parts
        if not parts:
            return {"missing": "Its run did not measure the gain from the question."}
        return {"gain": parts.question, "gain_unit": parts.unit}


class ForgettingUnder(GateCheckConfig):
    """Forgetting of general texts and questions, as measured by its run before and after training."""

    title: ClassVar[str] = "Forgetting under a limit"
    check: Literal["forgetting_under"] = "forgetting_under"
    nats: float = Field(
        0.2,
        gt=0,
        allow_inf_nan=False,
        title="Allowed increase of loss on texts",
        description="Allowed increase of the loss on texts, in nats per token",
    )
    share: float = Field(
        0.05,
        gt=0,
        le=1,
        title="Allowed decrease of correct answers",
        description="Decrease of the share of correct answers",
    )

    def collect(self, db: Queryable, candidate: Candidate) -> CheckInputs:
        verdict = find_verdict(db, candidate.version)
        if verdict is None:
            return {"missing": gate_candidates.explain_missing_verdict(candidate.version)}
        forgetting = verdict.forgetting
        if not forgetting:
            return {"missing": "Its run was launched without general questions, so this was not measured."}
        prose = next((text.change for text in forgetting.texts if text.probe == "prose"), None)
        answers = next((entry.change for entry in forgetting.choices if entry.probe == "choices"), None)
        return {"prose": prose, "answers": answers}


class BiasUnder(GateCheckConfig):
    """The newest bias check of the version."""

    title: ClassVar[str] = "Bias under a limit"
    check: Literal["bias_under"] = "bias_under"
    limit: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Limit for the increase of any share, 0.05 for 5 points; null, and other units, use their"
        " default limit",
    )

    def collect(self, db: Queryable, candidate: Candidate) -> CheckInputs:
        checked = find_bias_check(db, candidate.version)
        if checked is None:
            missing = f"{candidate.reference} has not been checked for bias yet."
            return {"missing": missing, "command": gate_candidates.format_bias_command(db, candidate)}
        report, against, checks = checked
        return {"bias": report, "other": against, "tries": checks}


class CalibrationUnder(OnRows):
    """For classifiers: gap between confidence and accuracy."""

    title: ClassVar[str] = "Calibrated"
    check: Literal["calibration_under"] = "calibration_under"
    limit: float = Field(0.1, gt=0, le=1, description="Calibration error (ECE)")

    def collect(self, db: Queryable, candidate: Candidate) -> CheckInputs:
        try:
            dataset = datasets.get_dataset(db, self.dataset)
        except NotFoundError as error:
            return {"missing": f"{error.message} The gate names it."}
        of_version = evaluations_of(db, candidate.version)
        own = find_on_rows(of_version, self.document(), dataset.fingerprint, "ece")
        if own is None:
            sentence = (
                f"{candidate.reference} has not been evaluated on {dataset.name} with "
                f"{METRICS['ece'].title} yet."
            )
            return {"missing": sentence, **format_gather_command(candidate)}
        sql = """
            SELECT probability, prediction = label AS right FROM read_parquet(?)
            WHERE probability IS NOT NULL AND label IS NOT NULL ORDER BY row_id"""
        path = str(evaluations.get_predictions_path(db, own.evaluation_id))
        try:
            table = db.query(sql, [path])
        except TunebenchError:
            return {"missing": f"The rows of {own.name} no longer exist.", **format_gather_command(candidate)}
        return {
            "certainty": RowConfidence(
                evaluation_id=own.evaluation_id,
                probability=table["probability"].to_pylist(),
                right=table["right"].to_pylist(),
            ),
            "tries": count_tries(of_version, self.document(), dataset.fingerprint, "ece"),
            **format_gather_command(candidate),
        }


class ParityPassed(GateCheckConfig):
    """Exports give the same answers as the version."""

    title: ClassVar[str] = "Exports give the same answers"
    check: Literal["parity_passed"] = "parity_passed"
    form: Annotated[Line, FieldDisplay(empty="every format")] = Field(
        "", max_length=40, description="Export format; every existing one if omitted"
    )
    warned: bool = Field(False, title="Allow warnings", description="Formats with warnings also pass")

    def collect(self, db: Queryable, candidate: Candidate) -> CheckInputs:
        wanted = self.form
        exports: list[FormParity] = [
            FormParity(
                form=form,
                title=find_title(form),
                status=parity.status if parity else None,
                answer_agreement=parity.answer_agreement if parity else None,
                reasons=parity.reasons if parity else [],
            )
            for form, parity in gate_candidates.list_exports(db, candidate.version)
            if wanted in ("", form)
        ]
        if not exports:
            what = f"as {find_title(wanted)}" if wanted else "in any format"
            return {
                "missing": f"{candidate.reference} has not been exported {what} yet.",
                "command": f"tunebench model export {candidate.quoted} --form"
                f" {shlex.quote(wanted or 'merged')}",
            }
        return {"exports": exports}


class HumanRatings(GateCheckConfig):
    """Ratings from rounds that compare the version with the version that holds the alias."""

    title: ClassVar[str] = "Not worse in human ratings"
    check: Literal["human_ratings"] = "human_ratings"
    least: int = Field(50, ge=1, le=1_000_000, title="Minimum", description="Minimum number of ratings")
    margin: float = Field(0.1, ge=0, lt=0.5, description="Allowed distance of its win rate below 50%")

    def collect(self, db: Queryable, candidate: Candidate) -> CheckInputs:
        holder = candidate.holder
        if holder is None:
            return {"rated": None, "other": ""}
        rated = RatedRows(rounds=[], other=format_version_reference(holder), outcomes=[], items=[], raters=[])
        for round in list_rounds(db, candidate.version):
            places = [
                next((n for n, system in enumerate(round.systems) if is_of_version(system, version)), None)
                for version in (candidate.version, holder)
            ]
            if round.protocol == "pairwise" and None not in places and round.state == "closed":
                add_ratings(db, round, cast(list[int], places), rated)
        if not rated.outcomes:
            which = f"{candidate.reference} with {rated.other}"
            return {
                "missing": f"There are no ratings that compare {which} on randomly sampled items."
                if rated.rounds
                else f"There is no closed rating round that compares {which}.",
                "command": "tunebench round start ROUND.yaml",
                "other": rated.other,
            }
        return {"rated": rated, "other": rated.other}


class LatencyUnder(GateCheckConfig):
    """Seconds per answer, over evaluations with answers on one type of machine."""

    title: ClassVar[str] = "Fast enough"
    check: Literal["latency_under"] = "latency_under"
    seconds: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        title="Seconds per answer",
        description="Seconds per answer, the median of at least six evaluations",
    )

    def collect(self, db: Queryable, candidate: Candidate) -> CheckInputs:
        timed = [
            entry
            for entry in evaluations_of(db, candidate.version)
            if entry.details.seconds.get("answers") and entry.n
        ]
        if not timed:
            return {
                "missing": f"No evaluation of {candidate.reference} with answers has been timed yet.",
                "command": f"tunebench evaluate --model {candidate.quoted} --metric chrf --dataset DATASET",
            }
        device = timed[0].details.device_name
        seconds = [
            entry.details.seconds["answers"] / entry.n
            for entry in timed
            if entry.details.device_name == device
        ]
        return {
            "seconds": seconds,
            "device": device,
            "tries": len({entry.details.device_name for entry in timed}),
            "command": f"tunebench evaluate --model {candidate.quoted} --metric chrf --dataset DATASET",
        }


GateCheck = Annotated[
    NotWorseThan
    | BetterOnTask
    | QuestionAbove
    | ForgettingUnder
    | BiasUnder
    | CalibrationUnder
    | ParityPassed
    | HumanRatings
    | LatencyUnder,
    Field(discriminator="check"),
]
# Check name, which is also its judge's name -> config class.
GATE_CHECKS: dict[str, type[GateCheckConfig]] = {
    kind.model_fields["check"].default: kind for kind in get_args(get_args(GateCheck)[0])
}


class GateConfig(Config):
    """Checks that a version has to pass; without checks, every version passes."""

    checks: list[GateCheck] = Field(default_factory=list, max_length=40)

    def document(self) -> ConfigDocument:
        """Return the config as it is stored and sent."""
        return self.model_dump()


class SetGate(Config):
    """Set the gate of an alias."""

    model: ModelName = Field(description="Registered model")
    alias: AliasName = Field("production", description="Alias that versions must pass the checks to get")
    gate: GateConfig = Field(description="Checks that must pass")


class GateCase(NamedTuple):
    """All inputs of a gate's decision; each check with its title and evidence."""

    reference: str
    alias: str
    holder: str | None
    checks: list[tuple[Check, str, CheckInputs]]


@named_query
def case(db: Queryable, reference: str, alias: str) -> GateCase:
    """Return the case of a version at the gate of an alias, with the available evidence. Raises
    NotFoundError.
    """
    candidate = get_candidate(db, reference, alias)
    return build_case(db, candidate, get_gate(db, candidate))


def get_gate(db: Queryable, candidate: Candidate) -> GateConfig:
    """Return the gate of the alias; without checks if it was never set."""
    line = model_versions.gate(db, candidate.version.model_id, candidate.alias)
    return GateConfig.parse(line.config) if line else GateConfig()


def build_case(db: Queryable, candidate: Candidate, gate: GateConfig) -> GateCase:
    """Build the case of a version at any gate, with the available evidence."""
    return GateCase(
        candidate.reference,
        candidate.alias,
        format_version_reference(candidate.holder) if candidate.holder else None,
        [(check.document(), check.title, check.collect(db, candidate)) for check in gate.checks],
    )
