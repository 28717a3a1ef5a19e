"""What commands and routes of the engine are answered with, and what some of those answers mean in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict

from store.core.model_schemas import ModelVersion
from store.core.rating_schemas import (
    RatableRounds,
    RatingReceipt,
    RatingTasks,
    ReleasedTaskCounts,
    RequestRoundQueued,
    RoundRowsQueued,
)
from store.core.schemas import CreatedApiToken, CreatedComment, CreatedInvitation, Job, RevokedAccess


class JobQueued(TypedDict):
    """The answer of a command that queues a job."""

    job_id: str


class RunQueued(TypedDict):
    """The answer of a command that queues a run."""

    run_id: str


class SampleQueued(TypedDict):
    """The answer of `prepare_sample`: the jobs that make what is missing."""

    job_ids: list[str]


class RoundQueued(TypedDict):
    """A rating round is being made."""

    round_id: str
    job_ids: list[str]  # of the evaluations that it waits for


class RecipeSaved(TypedDict):
    """The answer of `save_recipe`."""

    recipe_id: str


class SliceSaved(TypedDict):
    """The answer of `save_slice`."""

    slice_id: str


class StartedConversation(TypedDict):
    """The answer of a command that begins a conversation."""

    conversation_id: str


class SavedRow(TypedDict):
    """The answer of a command that keeps a row."""

    kept_id: str


@dataclass(kw_only=True)
class PlaygroundState:
    """How the talking process stands."""

    state: Literal["away", "ready"]
    memory_bytes: int | None  # of its process
    gpu_bytes: int | None
    loaded: list[str]
    machine_has: str | None  # the job that has the machine, which models share it with or give way to
    beside: bool  # models answer beside that job, with a share of the machine
    seconds_left: float | None  # until that job is over, by its own count
    slowdown: float | None  # how many times longer its steps take while models answer; null until measured
    answering: list[str]  # turns that are being answered


class EvaluationsQueued(TypedDict):
    """The answer of `gather_gate_evidence`: the evaluations that were queued, or are under way already."""

    job_ids: list[str]


class AliasMoved(TypedDict):
    """The answer of a command that moves an alias."""

    alias: str
    reference: str | None  # NAME@NUMBER that has it now
    replaced: ReplacedVersion | None  # null where no version had it


class ReplacedVersion(TypedDict):
    """The version that had an alias before, and who had given it: two who promote at once learn of it."""

    reference: str
    moved_by_name: str
    moved_at: str  # ISO 8601, UTC


class RunReproduced(RunQueued):
    """The answer of `reproduce`: a run, and the job that will hold its figures against the bundle's."""

    job_id: str


class EmptyAnswer(TypedDict):
    """The answer of a command that has nothing to say: an empty object."""


class StartedImprovement(TypedDict):
    """An improvement is under way."""

    improvement_id: str
    improvement: str  # its name


class CreatedEndpoint(TypedDict):
    """The answer of `make_endpoint`; the key is shown this once, and null where none was asked for."""

    endpoint_id: str
    name: str
    key: str | None


class CreatedEndpointKey(TypedDict):
    """The answer of `make_key`: the only time that the key can be read."""

    key_id: str
    key: str


CommandAnswer = (
    JobQueued
    | RunQueued
    | RunReproduced
    | SampleQueued
    | RecipeSaved
    | SliceSaved
    | CreatedComment
    | CreatedInvitation
    | CreatedApiToken
    | RevokedAccess
    | RoundQueued
    | RequestRoundQueued
    | RatingTasks
    | RatingReceipt
    | RatableRounds
    | ReleasedTaskCounts
    | RoundRowsQueued
    | StartedConversation
    | SavedRow
    | EvaluationsQueued
    | AliasMoved
    | StartedImprovement
    | CreatedEndpoint
    | CreatedEndpointKey
    | EmptyAnswer
)


def describe_registration(version: ModelVersion, job: Job) -> str:
    """`version`: that which the job made, or which has the same content."""
    reference = f"{version.name}@{version.version}"
    if version.created_at >= job.created_at:
        return f"{reference} is registered."
    return f"{reference} has the same content already: no other version was made."


def describe_promotion(moved: AliasMoved) -> str:
    """Whose place was taken is said, as two may promote at once and know nothing of each other."""
    done = f"{moved['reference']} is {moved['alias']} now"
    if (replaced := moved["replaced"]) is None:
        return f"{done}."
    at = datetime.fromisoformat(replaced["moved_at"])
    return (
        f"{done}, in place of {replaced['reference']}, which {replaced['moved_by_name']} made"
        f" {moved['alias']} on {at:%d %b %Y at %H:%M:%S} UTC."
    )
