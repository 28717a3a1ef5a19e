"""Archives feature: runs as single files, which can be opened and run again elsewhere."""

from __future__ import annotations

from store.core.features import Action, JobKind, StoreFeature
from store.core.schemas import Job, SubjectKind


def find_repeated_run(job: Job) -> tuple[SubjectKind, str, str]:
    """Return the run whose figures are compared with those of its bundle."""
    return "run", job.config["run"], job.config["name"]


FEATURE = StoreFeature(
    job_kinds=(
        JobKind("bundle", "Bundle", "engine.archives.writing_job", icon=":material/deployed_code_update:"),
        JobKind(
            "open_bundle",
            "Bundle inspection",
            "engine.archives.opening_job",
            icon=":material/deployed_code_update:",
        ),
        JobKind(
            "reproduction",
            "Reproduction check",
            "engine.archives.reproduction_job",
            find_subject=find_repeated_run,
        ),
    ),
    commands={"work": "bundle open_bundle reproduce"},
    actions={
        "bundle": Action("Exported", "bundled", ":material/deployed_code_update:"),
        "open_bundle": Action("Imported", "opened the bundle", ":material/deployed_code_update:"),
        "reproduce": Action("Launched", "reproduced", ":material/rocket_launch:"),
    },
)
