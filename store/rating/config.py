"""Configs of rating rounds: models, prompts or logged requests, and how they are rated."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from store.core.config import Config, FileSource, Line, ModelSource
from store.core.model_fields import FieldDisplay
from store.core.rating_schemas import GOLD_PASS, GOLD_TOLERANCE, RatingProtocol, RatingSubject
from store.core.schemas import ConfigDocument
from store.data.config import Source
from store.data.filters import Filter
from store.evaluation.config import AnswerSettings, Checkpoint, ModelSelection, Part
from store.rating.rating_files import RATING_FORMS, RatingFormName


class InformativenessWeights(Config):
    """Relative weights of the reasons for selecting an item; 0 disables one."""

    uncertainty: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    drift: float = Field(0.5, ge=0, le=100, allow_inf_nan=False)
    disagreement: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_counts(self) -> Self:
        if not self.uncertainty + self.drift + self.disagreement:
            raise ValueError("one of uncertainty, drift and disagreement must be above 0")
        return self


class RequestSample(Config):
    """Sample of answered requests whose texts were stored, with filters."""

    endpoint: Line = Field(min_length=1, max_length=120, description="Name or id")
    start: datetime | None = Field(None, description="Only requests since this time, UTC; all if null")
    end: datetime | None = None
    alert: Line = Field("", max_length=80, description="Only requests behind this alert")
    group: Line = Field("", max_length=200, description="Only requests of this group")
    version: Line = Field(
        "", max_length=200, description="Only answers of this version, including as a shadow"
    )
    random_share: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Number of randomly sampled requests, which unbiased metrics can use",
    )
    weights: InformativenessWeights = Field(default_factory=InformativenessWeights)

    @field_validator("start", "end")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        """Convert to naive UTC, as the store keeps time."""
        return moment.astimezone(UTC).replace(tzinfo=None) if moment and moment.tzinfo else moment


# Prompts are rows of a data set or of a file. Existing answers (of evaluations, or in the file) are used as
# they are; for other models, answers to the same prompts are generated once, before the round opens.

COMPARING: frozenset[RatingProtocol] = frozenset({"pairwise", "rank"})  # protocols that compare answers
REPEATED: frozenset[RatingProtocol] = COMPARING | {"label"}  # some are repeated to measure consistency
MAX_MODELS = 8
MAX_REQUESTS = 2_000  # per round
MAX_LABELS = 500
MIN_POINTS, MAX_POINTS = 2, 10  # per criterion
MARKING: frozenset[RatingProtocol] = frozenset({"spans", "free_text"})  # applies to an answer or the prompt
SERVED = "served answers"  # model name in a round of requests answered by several versions
MAX_RATERS = 500  # assigned to a round
MAX_MIB = 256  # size of a prompts file


class RowFile(Config):
    """A file given by path or as an upload."""

    path: Annotated[FileSource | None, FieldDisplay(example="/home/me/rows.jsonl")] = Field(
        None, title="Or path of a file on this machine", description="File on the engine's machine"
    )
    upload: str | None = Field(None, description="Name of an uploaded file")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if bool(self.path) == bool(self.upload):
            raise ValueError("give exactly one of path and upload")
        return self

    def source(self) -> Source:
        """Return the file as a source for readers."""
        return Source(path=self.path) if self.path else Source(upload=self.upload)


class RoundModel(Config):
    """A model in a round: given by an evaluation, a run, a model name, or its answers in the prompts file."""

    evaluation: Line = Field(
        "", max_length=120, description="Use the answers of this evaluation, by id or name"
    )
    run: Line = Field("", max_length=120, description="Id or name of a run")
    checkpoint: Checkpoint = "tuned"
    model: ModelSource = Field("", max_length=500, description="Model by name, folder or hub id")
    answers: Line = Field("", max_length=120, description="Name under which the file has its answers")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        writers = sum(map(bool, (self.evaluation, self.run, self.model)))
        if self.answers and (self.evaluation or writers > 1):
            raise ValueError("with answers, give the run or model that wrote them, or neither")
        if not self.answers and writers != 1:
            raise ValueError("give exactly one of evaluation, run, model and answers")
        return self


class AnswerPrompts(AnswerSettings, ModelSelection):
    """Answer the prompts of a file with one model, for a round that waits for the answers."""

    round: Line = Field(min_length=1, max_length=120, description="The job whose file it is")


class Criterion(Config):
    """Criterion of a rubric for one answer. anchors: the meaning of each point, worst to best; those between
    the ends may be empty.
    """

    name: Line = Field(min_length=1, max_length=40)
    question: Line = Field("", max_length=300)
    anchors: list[Line] = Field(min_length=MIN_POINTS, max_length=MAX_POINTS)

    @property
    def points(self) -> int:
        """The best score; the worst is 1."""
        return len(self.anchors)


class AssignedRater(Config):
    """A person assigned to a round."""

    person: Line = Field(min_length=1, max_length=200, description="E-mail address, name or id")
    quota: int | None = Field(None, ge=1, le=100_000, description="Maximum ratings by this person")


class RatingSettings(Config):
    """Settings for the raters of a round: the question and the number of ratings."""

    name: Line = Field(min_length=1, max_length=80, description="Visible to raters")
    notes: str = Field("", max_length=10_000)
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed for sampling prompts and answers")

    protocol: RatingProtocol = "pairwise"
    instruction: str = Field(
        "", max_length=4_000, title="Instructions for raters", description="Question shown to raters"
    )
    criteria: list[Criterion] = Field(default_factory=list, max_length=10, description="For a rubric")
    overall: bool = Field(
        False,
        title="Report an overall score",
        description="For a rubric: also report a score over all criteria, each from 0% to 100%",
    )
    reasons: Annotated[list[Line], FieldDisplay(separator=",")] = Field(
        default_factory=list,
        max_length=9,
        title="Reasons for a fail, separated by commas",
        description="For pass or fail",
    )
    labels: Annotated[list[Line], FieldDisplay(separator="\n")] = Field(
        default_factory=list,
        max_length=MAX_LABELS,
        title="Labels, one per line",
        description="For label and spans: the labels to choose from",
    )
    several_labels: bool = Field(
        False, title="Allow several labels", description="For label: allow any number of labels per text"
    )
    subject: Annotated[
        RatingSubject, FieldDisplay(choices={"answer": "The answer", "prompt": "The prompt"})
    ] = Field(
        "answer",
        title="About",
        description="For spans and free text: rate the answer, or the prompt (of one model) without it",
    )
    overlapping: bool = Field(
        False, title="Allow overlapping spans", description="For spans: allow overlapping spans"
    )
    blind: bool = Field(True, description="For label: hide the models' labels")
    ties: bool = Field(True, title="Allow ties", description="For pairwise: neither answer is better")
    both_bad: bool = Field(
        True, title='Allow "both bad"', description="For pairwise: neither answer is good, which is not a tie"
    )

    overlap: int = Field(
        2, ge=1, le=20, title="Raters per item", description="Raters per item; two or more measure agreement"
    )
    per_rater: Annotated[int | None, FieldDisplay(empty="no limit")] = Field(
        None, ge=1, le=100_000, title="Maximum ratings per person", description="Maximum ratings per person"
    )
    repeat_share: Annotated[float, FieldDisplay(scale=100, step=1)] = Field(
        0.1,
        ge=0,
        le=0.5,
        title="Repeated items (%)",
        description="Share shown again, pairs with sides swapped; measures how consistent a rater is",
    )
    calibration_share: Annotated[float, FieldDisplay(scale=100, step=1)] = Field(
        0.1,
        ge=0,
        le=1,
        title="Rated by everyone first (%)",
        description="Share of prompts that every rater rates first; at least 5 prompts, at most half."
        " They measure agreement from the first hour",
    )
    adjudicate: bool = Field(
        False,
        title="Send disagreements to one more rater",
        description="Send disagreements to one more rater",
    )
    raters: list[AssignedRater] = Field(
        default_factory=list,
        max_length=MAX_RATERS,
        description="Assigned raters; everyone who can rate if empty",
    )

    @model_validator(mode="after")
    def _fits_the_protocol(self) -> Self:
        if self.protocol == "rubric" and not self.criteria:
            raise ValueError("criteria: a rubric needs one or more")
        if self.several_labels and self.protocol != "label":
            raise ValueError(f"several_labels: {self.protocol} gives a text no labels; leave it out")
        if self.protocol == "free_text" and not self.instruction.strip():
            raise ValueError("instruction: free text needs the question that raters answer in text")
        names = [criterion.name for criterion in self.criteria]
        if len(set(names)) < len(names):
            raise ValueError("criteria: each needs a unique name")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: each needs a unique name")
        if any(not label.strip() or len(label) > 200 for label in self.labels):
            raise ValueError("labels: one is empty, or longer than 200 characters")
        return self


class RequestRound(RatingSettings, RequestSample):
    """A round over requests answered by an endpoint, in which people rate the served answers."""

    protocol: Literal["label", "correction", "pass_fail", "rubric", "pairwise"] = "label"
    items: int = Field(50, ge=1, le=MAX_REQUESTS, description="Maximum number of different requests")
    choice: Literal["random", "telling"] = Field(
        "telling",
        description="telling: the most informative and a random sample; random: a random sample only",
    )
    overlap: int = Field(1, ge=1, le=20, description="Raters per item")

    @model_validator(mode="after")
    def _fits_what_was_served(self) -> Self:
        if self.several_labels:
            raise ValueError("several_labels: a request has one label, so ask for one")
        return self

    @property
    def chosen(self) -> RequestSample:
        """The selection of requests."""
        return RequestSample.parse(self.model_dump(include=set(RequestSample.model_fields)))

    @property
    def rated(self) -> RatingSettings:
        """The rating settings."""
        return RatingSettings.parse(self.model_dump(include=set(RatingSettings.model_fields)))


class RoundConfig(RatingSettings):
    """Config of a rating round."""

    models: list[RoundModel] = Field(min_length=1, max_length=MAX_MODELS)

    prompts_file: RowFile | None = Field(None, description="File of prompts, instead of a data set")
    requests: RequestSample | None = Field(
        None, description="Requests of an endpoint, instead of a data set; set only by round_of_requests"
    )
    dataset: Line = Field(
        "", max_length=120, description="Data set of prompts; that of the evaluations if null"
    )
    part: Part = Field(
        "test",
        title="Part of the data set",
        description="Part of the data set's split; existing answers determine the prompts instead",
    )
    where: Filter | None = Field(None, description="Only rows that match this filter; all if null")
    items: Annotated[int | None, FieldDisplay(empty="all", step=10)] = Field(
        100, ge=1, le=100_000, title="Prompts", description="Maximum number of prompts; all if null"
    )
    choice: Annotated[
        Literal["random", "telling"],
        FieldDisplay(choices={"random": "At random", "telling": "Most informative"}),
    ] = Field(
        "random",
        title="Selection",
        description="telling (most informative): prefer prompts where answers, metrics and a judge disagree"
        " (for a file: answers only). Results are weighted by sampling probability, so they still represent"
        " all prompts",
    )
    max_new_tokens: Annotated[int, FieldDisplay(step=50)] = Field(
        256,
        ge=1,
        le=4096,
        title="Maximum answer length (tokens)",
        description="For models that first answer the prompts",
    )
    do_sample: bool = Field(
        False, title="Sample answers", description="Sample answers; otherwise greedy decoding"
    )
    temperature: Annotated[float, FieldDisplay(low=0.05, high=10, step=0.1)] = Field(
        1.0, gt=0, le=100, description="Requires do_sample"
    )
    top_p: float = Field(1.0, gt=0, le=1, description="Requires do_sample")
    named: Annotated[
        Literal["keep", "leave_out"], FieldDisplay(choices={"keep": "Keep", "leave_out": "Exclude"})
    ] = Field(
        "keep",
        title="Prompts where an answer names a model",
        description="Prompts where an answer names a model: keep and count, or exclude",
    )
    gold_dataset: Line = Field(
        "",
        max_length=120,
        description="Data set of known answers: preference pairs for pairwise, labelled texts for label",
    )
    gold_file: RowFile | None = Field(
        None, description="File of known answers, for any protocol: prompt, answers and expected in each row"
    )
    gold_items: int = Field(
        0, ge=0, le=1_000, title="Check items", description="Number of items with a known answer"
    )
    gold_pass: Annotated[float, FieldDisplay(scale=100, step=1)] = Field(
        GOLD_PASS,
        ge=0,
        le=1,
        title="Required accuracy (%)",
        description="Required accuracy; raters significantly below it are flagged",
    )
    gold_tolerance: int = Field(
        GOLD_TOLERANCE,
        ge=0,
        le=9,
        title="Tolerance in points",
        description="Rubric points by which a score may differ from the known one",
    )
    gold_share: Annotated[float, FieldDisplay(scale=100, low=1, step=1)] = Field(
        0.1,
        ge=0,
        le=0.3,
        title="Maximum share per rater (%)",
        description="Maximum share of check items per rater",
    )
    attention_share: Annotated[float, FieldDisplay(scale=100, step=1)] = Field(
        0.0,
        ge=0,
        le=0.1,
        title="Attention checks (%)",
        description="Share of attention checks per rater: the prompt ends with the choice to make, which"
        " inattentive raters miss",
    )
    qualification_items: int = Field(
        0,
        ge=0,
        le=50,
        title="Before the round",
        description="Items with a known answer that each rater answers first",
    )
    qualification_pass: Annotated[float, FieldDisplay(scale=100, step=1)] = Field(
        0.7,
        ge=0,
        le=1,
        title="Required accuracy to continue (%)",
        description="Required accuracy on the qualification items; below it a rater gets no more items",
    )

    @model_validator(mode="after")
    def _fits_the_models(self) -> Self:
        if self.protocol in COMPARING and len(self.models) < 2:
            raise ValueError(f"models: {self.protocol} compares two models or more")
        if self.protocol == "label" and len(self.labels) < 2:
            raise ValueError("labels: give two or more, of which raters choose one")
        if self.protocol == "spans" and not self.labels:
            raise ValueError("labels: spans need one or more to mark pieces of the text with")
        if self.protocol in MARKING and self.subject == "prompt" and len(self.models) > 1:
            raise ValueError("models: of a question about the prompt give one; its answers are not shown")
        return self

    @model_validator(mode="after")
    def _checks_have_answers(self) -> Self:
        if self.gold_dataset and self.gold_file:
            raise ValueError("gold_file: known answers are those of gold_dataset or of a file; leave one out")
        if self.gold_dataset and self.protocol not in ("pairwise", "label"):
            raise ValueError("gold_dataset: it has answers for pairwise and label; for others give gold_file")
        if (self.gold_items or self.qualification_items) and not (self.gold_dataset or self.gold_file):
            raise ValueError("gold_dataset: name the known answers that check items are drawn from")
        return self

    @model_validator(mode="after")
    def _fits_the_prompts(self) -> Self:
        named = [model.answers for model in self.models if model.answers]
        if self.prompts_file is None:
            if named and self.requests is None:
                raise ValueError("prompts_file: answers come from a file of prompts; name it")
            return self
        for field in ("dataset", "where"):
            if getattr(self, field):
                raise ValueError(f"{field}: the prompts are those of prompts_file; leave it out")
        if any(model.evaluation for model in self.models):
            raise ValueError("models: an evaluation has no answers to the prompts of a file")
        if len(set(named)) < len(named):
            raise ValueError("models: the same answers of the file twice")
        return self

    def document(self) -> ConfigDocument:
        """Return the config as it is stored and sent."""
        return self.model_dump(mode="json", exclude_none=True) | {"items": self.items}


class ImportRound(RowFile):
    """Import a round rated elsewhere from a file of votes, scores, passes or labels."""

    name: Line = Field("", max_length=80, description="Defaults to the name of the file")
    form: RatingFormName | None = Field(None, description="Row type; detected if omitted")
    columns: dict[str, str] = Field(
        default_factory=dict, description="role -> column, in addition to those detected; empty for no column"
    )
    values: dict[str, str] = Field(
        default_factory=dict, description="Meaning of each rating value; detected if omitted"
    )
    ignore: list[str] = Field(
        default_factory=list,
        max_length=4_096,
        description="Columns to ignore, although they may be relevant",
    )
    first: Annotated[Line, FieldDisplay(example="same as the column name")] = Field(
        "",
        max_length=80,
        title="Model of the first answer",
        description="The model of the first answer, if no column has it",
    )
    second: Annotated[Line, FieldDisplay(example="same as the column name")] = Field(
        "",
        max_length=80,
        title="Model of the second answer",
        description="The model of the second answer, if no column has it",
    )

    @model_validator(mode="after")
    def _fits_the_form(self) -> Self:
        if self.form is None:
            return self
        form = RATING_FORMS[self.form]
        for role in self.columns:
            if form.base_of(role) is None:
                raise ValueError(f"columns has the role {role!r}; {self.form} has {', '.join(form.roles)}")
        for value, meaning in self.values.items():
            if form.meanings and meaning not in form.meanings:
                raise ValueError(f"values has {value}: {meaning!r}; it may be {', '.join(form.meanings)}")
        return self
