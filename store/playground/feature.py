"""Playground feature: conversations with several models side by side."""

from __future__ import annotations

from store.core.features import Action, JobKind, StoreFeature

TALK = "talk"  # runs as long as the playground is in use

FEATURE = StoreFeature(
    job_kinds=(JobKind(TALK, "Playground", "engine.playground.host", is_open_ended=True),),
    commands={
        "work": """
            begin_conversation edit_conversation delete_conversation keep_answer forget_kept_row
            use_kept_rows
        """
    },
    actions={
        "use_kept_rows": Action("Imported", "made out of kept answers", ":material/dataset:"),
        "delete_conversation": Action("Deleted", "deleted the conversation", ":material/delete:"),
    },
    queries={
        "look": {
            "conversations": """
                conversations count get_conversation tree path turn_of answered_by answers_to_rate
                kept_rows
            """
        }
    },
)
