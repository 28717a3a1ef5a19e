"""What lies beside a tuned model's files."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class BaseReference(TypedDict):
    """A base model as any machine can know it: never by a path."""

    name: str  # the hub id, or the plain name of a folder
    hub_id: str | None  # null where nobody knows whether a hub has it
    revision: str | None  # the commit that was loaded


StopReason = Literal["epochs", "max_steps", "early_stopping", "forgetting", "mixed"]
STOPPED_EARLY: frozenset[StopReason] = frozenset({"early_stopping", "forgetting"})
CourseEnd = (
    StopReason | Literal["unfinished"]
)  # unfinished: a checkpoint of a run that was ended from outside


class TrainedCourse(TypedDict):
    """What training did, up to the weights that the model has; what was asked for stands beside it."""

    step: int  # whose weights they are
    last_step: int  # that was made
    rows: int  # that the optimiser saw up to `step`; one that came again in a later epoch counts again
    train_rows: int  # of the training part
    steps_per_epoch: int
    asked_epochs: float | None
    asked_steps: int | None  # the limit of steps; null where none was set
    reason: CourseEnd
    attempts: int  # 1: in one go; more: it was resumed


class ModelOrigin(TypedDict, total=False):
    """Where a model comes from, beside its base."""

    base: BaseReference  # what the files belong to; runs from before lack it
    dataset: str  # whose rows it was trained on, by its name then
    continued_from: str | None  # the run that it went on from
    init_mode: str | None  # how: stack or merge
    own_base: bool  # its adapter belongs to the model in the job's folder `base/`, not to `base_model`
    mixed_from: str  # of a mix: the run of whose model
    calls: bool  # rows of that data set call functions; older runs lack it
    alpha: float  # of a mix: the share of the way from the base
    course: TrainedCourse  # of a run that trained; runs from before lack it


class ModelNote(ModelOrigin):
    """`tunebench.json` in the folder of a tuned model."""

    base_model: str  # its name: of a local folder without the path
    labels: NotRequired[list[str]]  # of a classifier, in their order
    method: str  # of store.catalog.methods
    adapter: bool  # an adapter, and not whole weights
    held: Literal["", "nf4", "int8"]  # how the base model was held while it was trained
    merges: bool  # the adapter can be merged into its base
