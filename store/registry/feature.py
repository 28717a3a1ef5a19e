"""Registry feature: model versions, aliases and their gates."""

from __future__ import annotations

from store.core.features import Action, FileKind, JobKind, StoreFeature
from store.core.schemas import Job, SubjectKind
from store.core.version_folders import find_model_id


def find_registered_model(job: Job) -> tuple[SubjectKind, str, str]:
    """Return the model that the job registers a version of."""
    name = job.config["register"]["name"]
    return "model", find_model_id(name), name


FEATURE = StoreFeature(
    job_kinds=(
        JobKind(
            "register",
            "Registering",
            "engine.registry.register_job",
            icon=":material/deployed_code:",
            find_subject=find_registered_model,
        ),
    ),
    commands={
        "work": """
            register_model describe_model delete_version promote move_back remove_alias
            gather_gate_evidence
        """,
        "govern": "set_gate",
    },
    actions={
        "register_model": Action("Registered", "registered", ":material/deployed_code:"),
        "promote": Action("Promoted", "promoted", ":material/verified:"),
        "move_back": Action("Promoted", "rolled back", ":material/undo:"),
        "remove_alias": Action("Promoted", "removed an alias from", ":material/label_off:"),
        "describe_model": Action("Changed", "described", ":material/edit:"),
        "set_gate": Action("Changed", "changed the gate of", ":material/rule:"),
        "gather_gate_evidence": Action("Evaluated", "gathered evidence on", ":material/fact_check:"),
        "delete_version": Action("Deleted", "deleted a version of", ":material/delete:"),
    },
    queries={
        "look": {
            "gate_checks": "case",
            "gate_evidence": "evaluations_of",
            "model_versions": """
                alias_moves alias_before gate alias_standing count_versions newest_versions
                get_version find_fingerprint registered_by get_model list_models list_versions
                aliases versions_of_run
            """,
            "version_facts": "card lineage",
        }
    },
    find_version="store.registry.model_versions:get_version",
    tools={
        "look": "get_model check_gate",
        "work": "register_model gather_gate_evidence",
        "govern": "set_gate",
    },
    files=(
        FileKind(
            "gate",
            "Gate of an alias",
            "store.registry.gate_checks:GateConfig",
            "tunebench model set-gate NAME ALIAS FILE",
        ),
    ),
)
