"""Roles, and the table of rights required by each route, command, ask, query and tool.

The engine checks every request against this table, whatever a page shows; what is not in it is forbidden for
everyone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from store.core.errors import ForbiddenError, StateError
from store.core.features import RequiredRight, load_store_features
from store.core.schemas import Person, Right, Role

RIGHTS: dict[Role, frozenset[Right]] = {
    "viewer": frozenset({"own", "look"}),
    "rater": frozenset({"own", "rate"}),  # sees rating rounds only
    "member": frozenset({"own", "look", "rate", "work"}),
    "admin": frozenset({"own", "look", "rate", "work", "govern"}),
}
DEFAULT_ROLE: Role = "viewer"  # of an invitation without a role: can see everything and change nothing
OWNER: Person = Person(person_id="owner", name="you", role="admin")  # the owner of the home folder
MEANINGS: dict[Role, str] = {
    "viewer": "sees everything, changes nothing",
    "rater": "rates, and sees rating rounds alone",
    "member": "works: imports, launches, rates, deletes",
    "admin": "works, and manages accounts",
}
_DOES = {
    "look": "look at runs, data sets and evaluations",
    "rate": "rate",
    "work": "change, launch or delete anything, or ask in SQL",
    "govern": "manage people and settings",
    "own": "change their own account",
}


def is_owner(person: Person) -> bool:
    """Return whether the person owns the home folder, and thus may do all that the engine's user may."""
    return person.person_id == OWNER.person_id


def check_right(person: Person, right: Right | None) -> None:
    """Raise ForbiddenError if the role of a person does not include the right; no role includes None."""
    if right is None:
        raise ForbiddenError("Not allowed for anyone: it has no entry in store.core.rights.")
    if right not in RIGHTS[person.role]:
        raise ForbiddenError(
            f"A {person.role} may not {_DOES[right]}.",
            fix="Ask an admin for another role.",
        )


# The table of routes, commands, asks, queries and tools with the rights they require.
#
# A request that is not in it is rejected for everyone, and the engine does not start if a command, an ask or
# a query function is missing here, or is listed here and does not exist. Listed here are those of the core;
# each feature declares its own (`store.core.features`). The resulting matrix of roles is in docs/team.md,
# which a test compares with real responses.

Surface = Literal["route", "command", "ask", "query", "tool"]

_FEATURES = load_store_features()  # each declares rights for its own requests


def _map_rights(*tables: Mapping[Right, str]) -> dict[str, Right]:
    """Invert tables of right -> names to name -> right. Raises StateError for a duplicate name."""
    table: dict[str, Right] = {}
    for listed in tables:
        for right, names in listed.items():
            for name in names.split():
                if name in table:
                    raise StateError(f"The table of rights has {name} twice.")
                table[name] = right
    return table


def _name_modules(listed: Mapping[Right, Mapping[str, str]], room: str = "") -> dict[Right, str]:
    """Return qualified names of the query functions in a room of `store`, prefixed with room and module."""
    prefix = f"{room}." if room else ""
    return {
        right: " ".join(
            f"{prefix}{module}.{name}" for module, names in rooms.items() for name in names.split()
        )
        for right, rooms in listed.items()
    }


SQL_RIGHT: Right = "work"  # required for custom SQL, in a statement or a filter
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
    "GET /endpoints/{endpoint}/requests": "work",  # contains texts of callers
}

ASKS = _map_rights(
    {
        "look": "split overlap neighbours rendering",
        # uploaded files, and seconds of work before a launch or a cleaning
        "work": "inspect preview advice clean_preview",
    },
    *(feature.asks for feature in _FEATURES.values()),
)

COMMANDS = _map_rights(
    {
        "look": "record_comparison",  # whoever reads one
        "own": "set_own_name set_own_password end_session make_token revoke_token",
        "work": """
            import_dataset rename_dataset set_split delete_dataset profile clean export
            save_recipe delete_recipe save_slice delete_slice
            launch launch_sample prepare_sample cancel resume delete edit_run organize_runs interpolate
            keep_variant set_price evaluate judge
            comment edit_comment delete_comment
        """,
        "govern": """
            set_team invite take_back_invitation reset_password set_role set_active end_sessions
            allow_network refuse_network
        """,
    },
    *(feature.commands for feature in _FEATURES.values()),
)

_CORE_QUERIES: Mapping[Right, Mapping[str, str]] = {
    "look": {
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
        "jobs.job_queue": """
            get_job queue queue_length recent_jobs unfinished with_ids with_status statuses
        """,
        "jobs.metric_curves": "curves",
        "jobs.metric_points": "summaries curve value_at",
        "people.activity": "listed names made_by_others list_comments comment_counts",
        "people.settings": "price lost_commits",
        "runs.run_outcomes": """
            alerts_by_run count_alerted_runs costs measured_shares mixed_runs unfinished_interpolations
            kept_variants
        """,
        "runs.run_columns": "run_columns",
        "runs.run_table": "run_table",
        "runs.runs": """
            list_runs list_run_choices count_runs status_counts get_run get_runs predictions alerts
        """,
    },
    "govern": {"people.settings": "networks"},
}
QUERIES = _map_rights(
    _name_modules(_CORE_QUERIES),
    *(_name_modules(feature.queries, room) for room, feature in _FEATURES.items()),
)

TOOLS = _map_rights(
    {
        "look": """
            list_runs get_run list_jobs get_job list_datasets get_dataset get_profile read_rows
            list_evaluations get_evaluation read_answers list_models compare_runs compare_evaluations
        """,
        "work": """
            sql inspect_file import_dataset profile_dataset preview_clean clean_dataset export_dataset
            advise preview_launch launch_run cancel_job resume_job evaluate
        """,
    },
    *(feature.tools for feature in _FEATURES.values()),
)

TABLES: Mapping[Surface, Mapping[str, RequiredRight]] = {
    "route": ROUTES,
    "command": COMMANDS,
    "ask": ASKS,
    "query": QUERIES,
    "tool": TOOLS,
}


def check_complete(surface: Surface, names: Iterable[str]) -> None:
    """Raise StateError if the existing names and those in the table differ."""
    there, listed = set(names), TABLES[surface].keys()
    if missing := sorted(there - listed):
        raise StateError(f"The table of rights lacks the {surface} {missing[0]}.", fix="Add who may use it.")
    if gone := sorted(listed - there):
        raise StateError(f"The table of rights has the {surface} {gone[0]}, which does not exist.")
