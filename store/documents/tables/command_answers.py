"""What the commands of the engine are answered with."""

from __future__ import annotations

from typing import TypedDict

from store.documents.rating.rating_desk import RatingReceipt, RatingTasks
from store.documents.rating.round import RequestRoundQueued, RoundRowsQueued, RoundsToRate
from store.documents.rating.workload import RatingsReleased
from store.documents.serving.endpoint import EndpointKeyMade, EndpointMade
from store.documents.tables.activity import CommentAdded
from store.documents.tables.person import AccessEnded, ApiTokenMade, InvitationMade


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


class ConversationBegun(TypedDict):
    """The answer of a command that begins a conversation."""

    conversation_id: str


class RowKept(TypedDict):
    """The answer of a command that keeps a row."""

    kept_id: str


class EvidenceQueued(TypedDict):
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


class Done(TypedDict):
    """The answer of a command that has nothing to say: an empty object."""


class ImprovementBegun(TypedDict):
    """An improvement is under way."""

    improvement_id: str
    improvement: str  # its name


CommandAnswer = (
    JobQueued
    | RunQueued
    | RunReproduced
    | SampleQueued
    | RecipeSaved
    | SliceSaved
    | CommentAdded
    | InvitationMade
    | ApiTokenMade
    | AccessEnded
    | RoundQueued
    | RequestRoundQueued
    | RatingTasks
    | RatingReceipt
    | RoundsToRate
    | RatingsReleased
    | RoundRowsQueued
    | ConversationBegun
    | RowKept
    | EvidenceQueued
    | AliasMoved
    | ImprovementBegun
    | EndpointMade
    | EndpointKeyMade
    | Done
)
