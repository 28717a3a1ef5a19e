"""What each request takes: the one table of routes, commands, asks, queries and tools with their rights.

A request that is not in it is refused, whoever asks, and the engine does not start where a command, an ask
or a query function is missing here, or is named here and is not there. Which role has which right is said in
`store.contract.roles`; what comes of both is the matrix in docs/team.md, which a test holds against the real
answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from store.contract.errors import StateError
from store.documents.tables.person import Right

Surface = Literal["route", "command", "ask", "query", "tool"]
Needs = (
    Right | Literal["name", "nobody", "door"]
)  # the right of the name in it; none at all; that of the screens


def _by_name(listed: Mapping[Right, str]) -> dict[str, Right]:
    """Name -> right, of names in lines by right. Raises StateError for a name that is there twice."""
    table: dict[str, Right] = {}
    for right, names in listed.items():
        for name in names.split():
            if name in table:
                raise StateError(f"The table of rights has {name} twice.")
            table[name] = right
    return table


def _in_rooms(listed: Mapping[Right, Mapping[str, str]]) -> dict[str, Right]:
    """The same, of names that begin with that of their module in `store.queries`."""
    return _by_name(
        {
            right: " ".join(f"{module}.{name}" for module, names in rooms.items() for name in names.split())
            for right, rooms in listed.items()
        }
    )


SQL_RIGHT: Right = "work"  # to write SQL of one's own, in a statement or in a filter
ROUTES: Mapping[str, Needs] = {
    "GET /health": "nobody",
    "POST /door/{name}": "door",
    "GET /me": "own",
    "GET /account": "own",
    "GET /team": "govern",
    "POST /commands/{name}": "name",
    "POST /asks/{name}": "name",
    "POST /queries/{name}": "name",
    "POST /sql": SQL_RIGHT,
    "PUT /uploads/{name:path}": "work",
    "GET /machine": "look",
    "GET /models": "look",
    "GET /exports/{name:path}": "look",
    "GET /jobs/{job_id}/log": "look",
    "GET /playground": "look",
    "POST /playground/generate": "work",
    "POST /playground/stop": "work",
    "GET /endpoints": "look",
    "GET /endpoints/{endpoint}/requests": "work",  # what callers wrote
}

ASKS = _by_name(
    {
        "look": "split overlap neighbours rendering",
        # files that were uploaded, and work of seconds on the way to a launch or a cleaning
        "work": "inspect prompts ratings_file preview advice clean_preview",
    }
)

COMMANDS = _by_name(
    {
        "own": "set_own_name set_own_password end_session make_token revoke_token",
        "rate": "rounds_to_rate next_rating_tasks release_rating_tasks rate",
        "work": """
            import_dataset rename_dataset set_split delete_dataset profile clean export
            save_recipe delete_recipe save_slice delete_slice
            launch launch_sample prepare_sample cancel resume delete edit_run interpolate keep_variant
            set_price
            evaluate judge check_bias transfer bundle open_bundle reproduce export_model verify_model
            delete_export start_round import_round close_round open_round leave_rater_out take_rater_in
            let_rater_in assign_round release_round round_of_requests rows_from_round judge_rates
            register_model describe_model delete_version promote move_back remove_alias gather_gate_evidence
            begin_improvement decide_improvement resume_improvement stop_improvement
            schedule_improvement unschedule_improvement
            comment edit_comment delete_comment
            begin_conversation edit_conversation delete_conversation keep_answer forget_kept_row use_kept_rows
            make_endpoint change_endpoint start_endpoint stop_endpoint delete_endpoint make_key revoke_key
            set_monitor acknowledge_alert judge_requests
        """,
        "govern": """
            set_gate set_team invite take_back_invitation reset_password set_role set_active end_sessions
            set_webhook try_webhook allow_network refuse_network
        """,
    }
)

QUERIES = _in_rooms(
    {
        "look": {
            "activity": "listed names made_by_others",
            "alerts": "by_run count_runs",
            "bias.checks": "newest listed get unfinished",
            "comments": "listed counts",
            "conversations": """
                conversations count get_conversation tree path turn_of answered_by answers_to_rate kept_rows
            """,
            "data.datasets": "list_datasets get_dataset get_rows skipped",
            "data.explore": "example_row count row_ids find matching page values_of companions",
            "data.histogram": "facets",
            "data.map_points": "points values places",
            "data.quality": "signals work_order",
            "data.saved": "recipes slices",
            "data.versions": "tree fates compare",
            "evaluations.evaluation_pairs": "pair of_pair judgements",
            "evaluations.evaluations": """
                list_evaluations get unfinished listed models sliced comparable scores groups page shared
                probes
            """,
            "jobs": "get_job queue queue_length recent_jobs unfinished with_ids with_status statuses",
            "metrics": "summaries curve value_at",
            "monitoring.feedback": "by_version by_group callers_by_group unmatched",
            "monitoring.golden": "runs",
            "monitoring.judged_requests": "judgings answers correcting",
            "monitoring.monitor_alerts": "open_alerts past_alerts open_by_endpoint of_endpoint",
            "monitoring.monitors": "endpoints endpoint find reference_count torn",
            "monitoring.returned": "returned",
            "monitoring.scheduled_bias": "checks",
            "monitoring.side_by_side": "listed count_labelled",
            "monitoring.signal_counts": "counts",
            "monitoring.traffic": "by_version points span",
            "rating.assignments": "people_who_rate",
            "rating.ratings": "dealt of_items rated check_tasks rater_counts last_change left_out let_in",
            "rating.round_requests": "of_round",
            "rating.rounds": "line list_rounds of_run unfinished items some_items item_page",
            "rating.workload": "workload",
            "rows.class_predictions": "page shared",
            "rows.extraction_rows": "page",
            "rows.probe_rows": "questions of_runs weights requests course",
            "rows.row_losses": "shared of_runs sliced",
            "rows.task_metric_rows": "sums answers",
            "runs.gains_and_costs": "costs",
            "runs.interpolations": "points mixed unfinished kept",
            "runs.runs": "list_runs count_runs status_counts get_run get_runs predictions alerts",
            "runs.transfers": "measured_transfer unfinished newest last_bad_end seconds_a_cell",
            "serving.endpoints": "servable_aliases",
            "settings": "price lost_commits",
            "shipping.aliases": "moves before gate standing",
            "shipping.card": "card",
            "shipping.classifiers": "listed",
            "shipping.exports": "of_run of_version get recent unfinished verifications",
            "shipping.gate_evidence": "case",
            "shipping.improvements": "get of_model in_states schedule",
            "shipping.lineage": "lineage",
            "shipping.listed_versions": "count newest",
            "shipping.measured_evidence": "evaluations_of",
            "shipping.versions": """
                get_version find_fingerprint registered_by get_model list_models list_versions aliases
                versions_of_run
            """,
        },
        "work": {  # what callers of endpoints wrote
            "monitoring.logged_requests": "meant_by count newest",
            "monitoring.signal_counts": "most_unlike with_names troubled bad_of_candidate thumbs_down",
        },
        "govern": {"monitoring.webhooks": "webhook deliveries", "settings": "networks"},
    }
)

TOOLS = _by_name(
    {
        "look": """
            list_runs get_run list_jobs get_job list_datasets get_dataset get_profile read_rows
            list_evaluations get_evaluation read_answers compare_runs compare_evaluations get_bias_check
            list_models get_model check_gate list_exports get_export list_improvements
            list_endpoints get_monitor
        """,
        "work": """
            sql inspect_file import_dataset profile_dataset preview_clean clean_dataset export_dataset
            advise preview_launch launch_run cancel_job resume_job evaluate check_bias
            register_model gather_gate_evidence export_model
            serve_model start_endpoint stop_endpoint ask_endpoint set_monitor acknowledge_alert
            label_next begin_improvement
        """,
        "govern": "set_gate",
    }
)

TABLES: Mapping[Surface, Mapping[str, Needs]] = {
    "route": ROUTES,
    "command": COMMANDS,
    "ask": ASKS,
    "query": QUERIES,
    "tool": TOOLS,
}


def check_complete(surface: Surface, names: Iterable[str]) -> None:
    """Raise StateError where what there is and what the table has are not the same."""
    there, listed = set(names), TABLES[surface].keys()
    if missing := sorted(there - listed):
        raise StateError(
            f"The table of rights lacks the {surface} {missing[0]}.", fix="Say who may ask for it."
        )
    if gone := sorted(listed - there):
        raise StateError(f"The table of rights has the {surface} {gone[0]}, which there is not.")
