"""Responses of the engine's commands and routes, and descriptions of some of them in words."""

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
from store.evaluation.schemas import ComparisonLooks


class JobQueued(TypedDict):
    """Response of a command that queues a job."""

    job_id: str


class RunQueued(TypedDict):
    """Response of a command that queues a run."""

    run_id: str


class SampleQueued(TypedDict):
    """Response of `prepare_sample`: the jobs that create what is missing."""

    job_ids: list[str]


class RoundQueued(TypedDict):
    """Response of a command that creates a rating round."""

    round_id: str
    job_ids: list[str]  # evaluations that it waits for


class RecipeSaved(TypedDict):
    """Response of `save_recipe`."""

    recipe_id: str


class SliceSaved(TypedDict):
    """Response of `save_slice`."""

    slice_id: str


class StartedConversation(TypedDict):
    """Response of a command that starts a conversation."""

    conversation_id: str


class SavedRow(TypedDict):
    """Response of a command that saves a row."""

    kept_id: str


@dataclass(kw_only=True)
class PlaygroundState:
    """State of the playground process."""

    state: Literal["away", "ready"]
    memory_bytes: int | None  # of its process
    gpu_bytes: int | None
    loaded: list[str]
    machine_has: str | None  # the job that uses the machine, which models share it with or give way to
    beside: bool  # models generate next to that job, with a share of the machine
    seconds_left: float | None  # until that job ends, by its own estimate
    slowdown: float | None  # factor by which its steps are slower while models generate; null until measured
    answering: list[str]  # turns with responses in progress


class EvaluationsQueued(TypedDict):
    """Response of `gather_gate_evidence`: evaluations that were queued, or were already queued or running."""

    job_ids: list[str]


class AliasMoved(TypedDict):
    """Response of a command that moves an alias."""

    alias: str
    reference: str | None  # NAME@NUMBER that has the alias now
    replaced: ReplacedVersion | None  # null if no version had it


class ReplacedVersion(TypedDict):
    """The version that had an alias before, and who had set it, so that two people who promote at the same
    time notice.
    """

    reference: str
    moved_by_name: str
    moved_at: str  # ISO 8601, UTC


class RunReproduced(RunQueued):
    """Response of `reproduce`: a run, and the job that will compare its figures with those of the bundle."""

    job_id: str


class EmptyAnswer(TypedDict):
    """Response of a command without a result: an empty object."""


class StartedImprovement(TypedDict):
    """Response of a command that starts an improvement."""

    improvement_id: str
    improvement: str  # name of the improvement


class CreatedEndpoint(TypedDict):
    """Response of `make_endpoint`. The key is only returned here, and null if none was requested."""

    endpoint_id: str
    name: str
    key: str | None


class CreatedEndpointKey(TypedDict):
    """Response of `make_key`. The key can only be read here."""

    key_id: str
    key: str


class ComparisonRecorded(TypedDict):
    """Response of `record_comparison`: the looks at each set of rows that the runs share."""

    looks: list[ComparisonLooks]


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
    | ComparisonRecorded
    | EmptyAnswer
)


def describe_registration(version: ModelVersion, job: Job) -> str:
    """Describe a registration. `version`: the version that the job created, or that has the same content."""
    reference = f"{version.name}@{version.version}"
    if version.created_at >= job.created_at:
        return f"{reference} is registered."
    return f"{reference} has the same content already: no other version was made."


def describe_promotion(moved: AliasMoved) -> str:
    """Describe a promotion. It names the replaced version, since two people may promote at the same time
    unknowingly.
    """
    done = f"{moved['reference']} is {moved['alias']} now"
    if (replaced := moved["replaced"]) is None:
        return f"{done}."
    at = datetime.fromisoformat(replaced["moved_at"])
    return (
        f"{done}, in place of {replaced['reference']}, which {replaced['moved_by_name']} made"
        f" {moved['alias']} on {at:%d %b %Y at %H:%M:%S} UTC."
    )
