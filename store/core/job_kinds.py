"""All kinds of jobs and asks: title, lane and module of each; and the job states with their transitions."""

from __future__ import annotations

from store.core.errors import StateError
from store.core.features import JobKind, load_store_features
from store.core.schemas import JobStatus

# A kind's work is `run(job) -> document` in its module, plus, for a kind with a row, its `phases`, from which
# the remaining time is estimated (`engine.worker.job`). What the engine does for a kind (the input of its
# worker, what its result adds to the store) are functions with the same names in `engine.job_handlers`. The
# kinds here are those of the core; each feature declares its own.

PROCESSOR = "cpu"  # device that jobs of lane `beside` share with others

CORE_KINDS: tuple[JobKind, ...] = (
    JobKind("train", "Run", "engine.training.train_job", "device", ":material/model_training:", is_run=True),
    JobKind(
        "variant",
        "Mixed run",
        "engine.training.variant_job",
        "device",
        ":material/linear_scale:",
        is_run=True,
    ),
    JobKind("evaluate", "Evaluation", "engine.evaluation.evaluate_job", "device"),
    JobKind("judge", "Judging", "engine.evaluation.judge_job"),
    JobKind(
        "interpolate",
        "Interpolation",
        "engine.training.interpolation_job",
        "device",
        ":material/linear_scale:",
    ),
    JobKind(
        "import",
        "Import",
        "engine.data.import_job",
        icon=":material/upload_file:",
        makes_dataset=True,
        without_models=True,
    ),
    JobKind("profile", "Measuring", "engine.data.measurement_job", in_background=True, leaves_columns=True),
    JobKind("clean", "Cleaning", "engine.data.cleaning_job", makes_dataset=True),
    JobKind("export", "Export", "engine.data.export_job"),
    JobKind("convert", "Model", "engine.models.bundled", icon=":material/deployed_code:"),
    JobKind("inspect", "Look at a file", "engine.data.source_inspection", is_ask=True, without_models=True),
    JobKind("split", "Split", "engine.data.split_counts", is_ask=True, without_models=True),
    JobKind("preview", "Preview", "engine.training.preview.preview_query", is_ask=True, needs_past=True),
    JobKind("advice", "Advice", "engine.training.preview.advice_query", is_ask=True, needs_past=True),
    JobKind("clean_preview", "Preview of a cleaning", "engine.data.cleaning_preview", is_ask=True),
    JobKind("rendering", "Rendering", "engine.training.preview.rendering_query", is_ask=True),
    JobKind("overlap", "Overlap", "engine.data.shared_rows", is_ask=True, without_models=True),
    JobKind("neighbours", "Neighbours", "engine.data.neighbour_rows", is_ask=True),
)

JOB_KINDS: dict[str, JobKind] = {
    kind.name: kind
    for kinds in (CORE_KINDS, *(feature.job_kinds for feature in load_store_features().values()))
    for kind in kinds
}

RUNS = tuple(kind.name for kind in JOB_KINDS.values() if kind.is_run)
ASKS = tuple(kind.name for kind in JOB_KINDS.values() if kind.is_ask)


TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    "queued": frozenset({"preparing", "cancelled", "failed"}),
    "preparing": frozenset({"training", "evaluating", "finished", "failed", "cancelled", "lost"}),
    "training": frozenset({"evaluating", "preparing", "finished", "failed", "cancelled", "lost"}),
    "evaluating": frozenset({"training", "finished", "failed", "cancelled", "lost"}),
    "finished": frozenset(),
    "failed": frozenset({"queued"}),  # resume
    "cancelled": frozenset({"queued"}),
    "lost": frozenset({"queued"}),
}
ACTIVE: frozenset[JobStatus] = frozenset({"preparing", "training", "evaluating"})  # taken by a worker
ALIVE: frozenset[JobStatus] = ACTIVE | {"queued"}
RESUMABLE: frozenset[JobStatus] = frozenset({"failed", "cancelled", "lost"})


def check_transition(title: str, old: JobStatus, new: JobStatus) -> None:
    """Raise StateError unless a job may change from state `old` to `new`."""
    if new not in TRANSITIONS[old]:
        raise StateError(f"{title} is {old} and can't become {new}.")
