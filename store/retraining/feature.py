"""Retraining feature: improve a version with feedback and ratings from its use."""

from __future__ import annotations

from store.core.features import Action, JobKind, StoreFeature

FEATURE = StoreFeature(
    job_kinds=(
        JobKind(
            "gather_rows",
            "Gathering of new rows",
            "engine.retraining.job",
            icon=":material/dataset:",
            makes_dataset=True,
        ),
    ),
    commands={
        "work": """
            begin_improvement decide_improvement resume_improvement stop_improvement
            schedule_improvement unschedule_improvement
        """
    },
    actions={
        "begin_improvement": Action("Improved", "started an improvement of", ":material/autorenew:"),
        "decide_improvement": Action("Improved", "decided on an improvement of", ":material/how_to_vote:"),
        "resume_improvement": Action("Improved", "resumed an improvement of", ":material/resume:"),
        "stop_improvement": Action("Improved", "stopped an improvement of", ":material/stop_circle:"),
        "schedule_improvement": Action("Improved", "set an improvement schedule for", ":material/schedule:"),
        "unschedule_improvement": Action(
            "Improved", "ended the improvement schedule of", ":material/event_busy:"
        ),
    },
    queries={"look": {"improvements": "get of_model in_states schedule"}},
    tools={"look": "list_improvements", "work": "label_next begin_improvement"},
)
