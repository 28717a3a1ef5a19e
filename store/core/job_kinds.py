"""Every kind of job and of ask: what it is called, where it runs, what module does it; and the states of
a job with the moves between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from store.core.errors import StateError
from store.core.schemas import JobStatus

# Every kind of job and of ask: what it is called, where it runs, what module does it.
#
# A kind's work is `run(job) -> document` in its module, and of a kind that has a row its `phases`, by which
# the time left is told (`engine.worker.job`). What the engine has to do for a kind (what its worker
# is told, what its result brings into the store) are functions, by the same names in
# `engine.job_handlers`.

Lane = Literal["device", "beside", "light"]
PROCESSOR = "cpu"  # a device that jobs beside others share with them


@dataclass(frozen=True)
class JobKind:
    """One kind. title and icon: as the overview names it. lane: device has one job a device at a time, light
    one at a time; beside one at a time, on a device that nobody wants or else on the processor beside
    whatever works there; where it depends on what is asked, that of the most.

    is_run: it has a row in table `run`. is_ask: it is answered while someone waits, and has no row at all.
    makes_dataset: its config's name is taken while it lives. in_background: nobody waits for it, so it
    starts last in the light lane and holds up nothing. leaves_columns: its Parquet files belong to nobody
    where it did not finish. without_models: it starts sooner as a process of its own than once models can be
    loaded. needs_past: the engine adds to its body what earlier runs took. logged_texts: the file of its
    folder with texts of a log, which goes when it ends in any way: a log is kept for its days.
    """

    name: str
    title: str
    module: str
    lane: Lane = "light"
    icon: str = ":material/work:"
    is_run: bool = False
    is_ask: bool = False
    makes_dataset: bool = False
    in_background: bool = False
    leaves_columns: bool = False
    without_models: bool = False
    needs_past: bool = False
    logged_texts: str = ""

    @property
    def has_row(self) -> bool:
        """Whether people see how far it is."""
        return not self.is_ask and self.name != TALK


TALK = "talk"  # lives as long as people talk to it; it has no row either

JOB_KINDS: dict[str, JobKind] = {
    kind.name: kind
    for kind in (
        JobKind(
            "train", "Run", "engine.training.train_job", "device", ":material/model_training:", is_run=True
        ),
        JobKind(
            "variant", "Mixed run", "engine.training.variant_job", "device", ":material/linear_scale:",
            is_run=True,
        ),
        JobKind("evaluate", "Evaluation", "engine.evaluation.evaluate_job", "device"),
        JobKind("bias", "Bias check", "engine.bias.job", "device", ":material/balance:"),
        JobKind("judge", "Judging", "engine.evaluation.judge_job"),
        JobKind("round", "Rating round", "engine.rating.jobs.gather_answers", icon=":material/rate_review:"),
        JobKind(
            "answer_prompts", "Answers for a round", "engine.rating.jobs.answer_prompts", "device",
            ":material/rate_review:",
        ),
        JobKind(
            "import_round", "Import of a rating round", "engine.rating.jobs.import_votes",
            icon=":material/rate_review:", without_models=True,
        ),
        JobKind(
            "interpolate", "Interpolation", "engine.training.interpolation_job", "device",
            ":material/linear_scale:",
        ),
        JobKind("transfer", "Transfer", "engine.transfer.job", "device", ":material/grid_on:"),
        JobKind(
            "import", "Import", "engine.data.import_job", icon=":material/upload_file:",
            makes_dataset=True, without_models=True,
        ),
        JobKind(
            "profile", "Measuring", "engine.data.measurement_job", in_background=True, leaves_columns=True
        ),
        JobKind("clean", "Cleaning", "engine.data.cleaning_job", makes_dataset=True),
        JobKind(
            "gather_rows", "Gathering of new rows", "engine.retraining.job",
            icon=":material/dataset:", makes_dataset=True,
        ),
        JobKind("export", "Export", "engine.data.export_job"),
        JobKind("register", "Registering", "engine.registry.register_job", icon=":material/deployed_code:"),
        JobKind(
            "model_export", "Export of a model", "engine.export.model_export", "beside",
            ":material/output:",
        ),
        JobKind(
            "model_verify", "Check of an export", "engine.export.model_verification", "beside",
            ":material/verified:",
        ),
        JobKind("bundle", "Bundle", "engine.archives.writing_job", icon=":material/deployed_code_update:"),
        JobKind(
            "open_bundle", "Look into a bundle", "engine.archives.opening_job",
            icon=":material/deployed_code_update:",
        ),
        JobKind("reproduction", "Figures beside a bundle's", "engine.archives.reproduction_job"),
        JobKind(
            "judge_requests", "Judging of requests", "engine.monitoring.judging_job",
            icon=":material/gavel:", logged_texts="requests.parquet",
        ),
        JobKind(
            "watch", "Look at requests", "engine.monitoring.watch_job", icon=":material/monitoring:",
            in_background=True,
        ),
        JobKind("convert", "Model", "engine.models.bundled", icon=":material/deployed_code:"),
        JobKind(
            "inspect", "Look at a file", "engine.data.source_inspection", is_ask=True, without_models=True
        ),
        JobKind(
            "split", "Split", "engine.data.split_counts", is_ask=True, without_models=True
        ),
        JobKind("preview", "Preview", "engine.training.preview.preview_query", is_ask=True, needs_past=True),
        JobKind("advice", "Advice", "engine.training.preview.advice_query", is_ask=True, needs_past=True),
        JobKind("clean_preview", "Preview of a cleaning", "engine.data.cleaning_preview", is_ask=True),
        JobKind("rendering", "Rendering", "engine.training.preview.rendering_query", is_ask=True),
        JobKind(
            "prompts", "Look at prompts", "engine.rating.jobs.inspect_prompts", is_ask=True,
            without_models=True,
        ),
        JobKind(
            "ratings_file", "Look at ratings", "engine.rating.jobs.inspect_ratings", is_ask=True,
            without_models=True,
        ),
        JobKind("overlap", "Overlap", "engine.data.shared_rows", is_ask=True, without_models=True),
        JobKind("neighbours", "Neighbours", "engine.data.neighbour_rows", is_ask=True),
        JobKind(TALK, "Playground", "engine.playground.host"),
    )
}  # fmt: skip

RUNS = tuple(kind.name for kind in JOB_KINDS.values() if kind.is_run)
ASKS = tuple(kind.name for kind in JOB_KINDS.values() if kind.is_ask)


TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    "queued": frozenset({"preparing", "cancelled", "failed"}),
    "preparing": frozenset({"training", "evaluating", "finished", "failed", "cancelled", "lost"}),
    "training": frozenset({"evaluating", "preparing", "finished", "failed", "cancelled", "lost"}),
    "evaluating": frozenset({"training", "finished", "failed", "cancelled", "lost"}),
    "finished": frozenset(),
    "failed": frozenset({"queued"}),  # a resume
    "cancelled": frozenset({"queued"}),
    "lost": frozenset({"queued"}),
}
ACTIVE: frozenset[JobStatus] = frozenset({"preparing", "training", "evaluating"})  # a worker has it
ALIVE: frozenset[JobStatus] = ACTIVE | {"queued"}
RESUMABLE: frozenset[JobStatus] = frozenset({"failed", "cancelled", "lost"})


def check_transition(title: str, old: JobStatus, new: JobStatus) -> None:
    """Raise StateError unless a job in state `old` may go to `new`."""
    if new not in TRANSITIONS[old]:
        raise StateError(f"{title} is {old} and can't become {new}.")
