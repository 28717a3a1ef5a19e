"""Rating feature: rounds of items that people rate blindly."""

from __future__ import annotations

from store.core.features import Action, FileKind, JobKind, StoreFeature
from store.core.schemas import Job, SubjectKind


def find_round(job: Job) -> tuple[SubjectKind, str, str]:
    """Return the round that the job creates."""
    return "round", job.job_id, job.config["round"]["name"]


FEATURE = StoreFeature(
    job_kinds=(
        JobKind(
            "round",
            "Rating round",
            "engine.rating.jobs.gather_answers",
            icon=":material/rate_review:",
            find_subject=find_round,
        ),
        JobKind(
            "answer_prompts",
            "Answers for a round",
            "engine.rating.jobs.answer_prompts",
            "device",
            ":material/rate_review:",
        ),
        JobKind(
            "import_round",
            "Import of a rating round",
            "engine.rating.jobs.import_votes",
            icon=":material/rate_review:",
            without_models=True,
            find_subject=find_round,
        ),
        JobKind(
            "prompts",
            "Look at prompts",
            "engine.rating.jobs.inspect_prompts",
            is_ask=True,
            without_models=True,
        ),
        JobKind(
            "ratings_file",
            "Look at ratings",
            "engine.rating.jobs.inspect_ratings",
            is_ask=True,
            without_models=True,
        ),
    ),
    asks={"work": "prompts ratings_file"},
    commands={
        "rate": "rounds_to_rate next_rating_tasks release_rating_tasks rate",
        "work": """
            start_round import_round close_round open_round leave_rater_out take_rater_in let_rater_in
            assign_round release_round round_of_requests rows_from_round judge_rates
        """,
    },
    actions={
        "start_round": Action("Rated", "started the round", ":material/rate_review:"),
        "round_of_requests": Action("Rated", "asked about requests in", ":material/rate_review:"),
        "import_round": Action("Imported", "imported the round", ":material/upload_file:"),
        "rate": Action("Rated", "began to rate", ":material/rate_review:"),
        "judge_rates": Action("Rated", "let a judge rate", ":material/gavel:"),
        "close_round": Action("Rated", "closed the round", ":material/check_circle:"),
        "open_round": Action("Rated", "opened again", ":material/lock_open:"),
        "leave_rater_out": Action("Changed", "left a rater out of", ":material/person_off:"),
        "take_rater_in": Action("Changed", "took a rater back into", ":material/person_add:"),
        "let_rater_in": Action("Changed", "let a rater go on in", ":material/how_to_reg:"),
        "assign_round": Action("Changed", "named the raters of", ":material/assignment_ind:"),
        "release_round": Action("Changed", "gave back tasks of", ":material/assignment_return:"),
        "rows_from_round": Action("Imported", "made out of a round", ":material/dataset:"),
    },
    queries={
        "look": {
            "ratings": """
                dealt of_items rated check_tasks rater_counts last_change left_out let_in
            """,
            "rounds": """
                requests_of_round line list_rounds of_run unfinished items some_items item_page
            """,
            "workload": "people_who_rate workload",
        }
    },
    files=(
        FileKind("round", "Rating round", "store.rating.config:RoundConfig", "tunebench round start FILE"),
    ),
)
