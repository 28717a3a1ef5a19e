"""Roles, and the one table of what each route, command, ask, query and tool takes.

The engine holds every request to this table, whatever a page shows; what is not in it is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from store.core.errors import ForbiddenError, StateError
from store.core.schemas import Person, Right, Role

RIGHTS: dict[Role, frozenset[Right]] = {
    "viewer": frozenset({"own", "look"}),
    "rater": frozenset({"own", "rate"}),  # and sees rating rounds alone
    "member": frozenset({"own", "look", "rate", "work"}),
    "admin": frozenset({"own", "look", "rate", "work", "govern"}),
}
DEFAULT_ROLE: Role = "viewer"  # of an invitation that names none: sees the work, and harms nothing
OWNER: Person = {"person_id": "owner", "name": "you", "role": "admin"}  # whoever has the home folder
MEANINGS: dict[Role, str] = {
    "viewer": "sees everything, changes nothing",
    "rater": "rates, and sees rating rounds alone",
    "member": "works: imports, launches, rates, deletes",
    "admin": "works, and says who else may",
}
_DOES = {
    "look": "look at runs, data sets and evaluations",
    "rate": "rate",
    "work": "change, launch or delete anything, or ask in SQL",
    "govern": "manage people and settings",
    "own": "change their own account",
}


def is_owner(person: Person) -> bool:
    """Whether it is whoever has the home folder, and with it all that the engine's user may do."""
    return person["person_id"] == OWNER["person_id"]


def check_right(person: Person, right: Right | None) -> None:
    """Raise ForbiddenError where the role of a person does not have a right; None is nobody's."""
    if right is None:
        raise ForbiddenError("Nobody may ask for that: it has no right in store.core.rights.")
    if right not in RIGHTS[person["role"]]:
        raise ForbiddenError(
            f"A {person['role']} may not {_DOES[right]}.",
            fix="Ask an admin for another role.",
        )


# What each request takes: the one table of routes, commands, asks, queries and tools with their rights.
#
# A request that is not in it is refused, whoever asks, and the engine does not start where a command, an
# ask or a query function is missing here, or is named here and is not there. Which role has which right is
# said in `store.core.rights`; what comes of both is the matrix in docs/team.md, which a test holds against
# the real answers.

Surface = Literal["route", "command", "ask", "query", "tool"]
RequiredRight = (
    Right | Literal["name", "nobody", "door"]
)  # the right of the name in it; none at all; that of the screens


def _map_rights(listed: Mapping[Right, str]) -> dict[str, Right]:
    """Name -> right, of names in lines by right. Raises StateError for a name that is there twice."""
    table: dict[str, Right] = {}
    for right, names in listed.items():
        for name in names.split():
            if name in table:
                raise StateError(f"The table of rights has {name} twice.")
            table[name] = right
    return table


def _map_module_rights(listed: Mapping[Right, Mapping[str, str]]) -> dict[str, Right]:
    """The same, of names that begin with those of their room and module in `store`."""
    return _map_rights(
        {
            right: " ".join(f"{module}.{name}" for module, names in rooms.items() for name in names.split())
            for right, rooms in listed.items()
        }
    )


SQL_RIGHT: Right = "work"  # to write SQL of one's own, in a statement or in a filter
ROUTES: Mapping[str, RequiredRight] = {
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

ASKS = _map_rights(
    {
        "look": "split overlap neighbours rendering",
        # files that were uploaded, and work of seconds on the way to a launch or a cleaning
        "work": "inspect prompts ratings_file preview advice clean_preview",
    }
)

COMMANDS = _map_rights(
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

QUERIES = _map_module_rights(
    {
        "look": {
            "bias.bias_checks": "newest listed get unfinished list_classifiers",
            "data.dataset_versions": "tree fates compare",
            "data.datasets": "list_datasets get_dataset get_rows skipped signals work_order",
            "data.exploration": """
                example_row count row_ids find matching page values_of companions map_points map_values
                map_places
            """,
            "data.histogram": "facets",
            "data.saved_recipes": "recipes slices",
            "evaluation.evaluation_pairs": "pair of_pair judgements",
            "evaluation.evaluations": """
                list_evaluations get unfinished listed models sliced comparable scores groups page shared
                probes
            """,
            "evaluation.scored_rows": """
                prediction_page shared_predictions extraction_page probe_questions probes_of_runs
                matrix_changes probe_requests probe_curve shared_losses losses_of_runs sliced_losses
                validation_sums answer_sums
            """,
            "export.exports": "of_run of_version get recent unfinished verifications",
            "jobs.job_queue": """
                get_job queue queue_length recent_jobs unfinished with_ids with_status statuses
            """,
            "jobs.metric_points": "summaries curve value_at",
            "monitoring.feedback": "by_version by_group callers_by_group unmatched returned",
            "monitoring.logged_requests": "judgings answers correcting",
            "monitoring.monitor_alerts": "open_alerts past_alerts open_by_endpoint of_endpoint",
            "monitoring.monitors": """
                golden_runs endpoints endpoint find reference_count torn scheduled_checks
            """,
            "monitoring.side_by_side": "listed count_labelled",
            "monitoring.traffic": "signal_counts by_version points span",
            "people.activity": "listed names made_by_others list_comments comment_counts",
            "people.settings": "price lost_commits",
            "playground.conversations": """
                conversations count get_conversation tree path turn_of answered_by answers_to_rate kept_rows
            """,
            "rating.ratings": "dealt of_items rated check_tasks rater_counts last_change left_out let_in",
            "rating.rounds": """
                requests_of_round line list_rounds of_run unfinished items some_items item_page
            """,
            "rating.workload": "people_who_rate workload",
            "registry.gate_evidence": "case evaluations_of",
            "registry.model_versions": """
                alias_moves alias_before gate alias_standing count_versions newest_versions get_version
                find_fingerprint registered_by get_model list_models list_versions aliases versions_of_run
            """,
            "registry.version_facts": "card lineage",
            "retraining.improvements": "get of_model in_states schedule",
            "runs.run_outcomes": """
                alerts_by_run count_alerted_runs costs measured_shares mixed_runs unfinished_interpolations
                kept_variants
            """,
            "runs.runs": "list_runs count_runs status_counts get_run get_runs predictions alerts",
            "serving.endpoints": "servable_aliases",
            "transfer.transfers": "measured_transfer unfinished newest last_bad_end seconds_a_cell",
        },
        "work": {
            "monitoring.logged_requests": "meant_by count newest",
            "monitoring.traffic": "most_unlike with_names troubled bad_of_candidate thumbs_down",
        },
        "govern": {
            "monitoring.monitor_alerts": "webhook deliveries",
            "people.settings": "networks",
        },
    }
)

TOOLS = _map_rights(
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

TABLES: Mapping[Surface, Mapping[str, RequiredRight]] = {
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
