"""Export feature: models in the formats of other tools, compared with the original."""

from __future__ import annotations

from store.core.features import Action, JobKind, StoreFeature
from store.export.forms import FORMS

FEATURE = StoreFeature(
    job_kinds=(
        JobKind("model_export", "Model export", "engine.export.model_export", "beside", ":material/output:"),
        JobKind(
            "model_verify",
            "Export verification",
            "engine.export.model_verification",
            "beside",
            ":material/verified:",
        ),
    ),
    commands={"work": "export_model verify_model delete_export"},
    actions={
        "export_model": Action("Exported", "exported the model", ":material/output:"),
        "verify_model": Action("Exported", "verified an export of", ":material/verified:"),
        "delete_export": Action("Deleted", "deleted the export", ":material/delete:"),
    },
    queries={"look": {"exports": "of_run of_version get recent unfinished verifications"}},
    tools={"look": "list_exports get_export", "work": "export_model"},
    titles={form.name: form.title for form in FORMS.values()},
)
