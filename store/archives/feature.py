"""Archives: a run as one file, opened and run again elsewhere."""

from __future__ import annotations

from store.core.features import Action, JobKind, StoreFeature

FEATURE = StoreFeature(
    job_kinds=(
        JobKind("bundle", "Bundle", "engine.archives.writing_job", icon=":material/deployed_code_update:"),
        JobKind(
            "open_bundle",
            "Look into a bundle",
            "engine.archives.opening_job",
            icon=":material/deployed_code_update:",
        ),
        JobKind("reproduction", "Figures beside a bundle's", "engine.archives.reproduction_job"),
    ),
    commands={"work": "bundle open_bundle reproduce"},
    actions={
        "bundle": Action("Exported", "bundled", ":material/deployed_code_update:"),
        "open_bundle": Action("Imported", "opened the bundle", ":material/deployed_code_update:"),
        "reproduce": Action("Launched", "reproduced", ":material/rocket_launch:"),
    },
)
