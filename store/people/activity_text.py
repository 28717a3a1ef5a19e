"""What commands do, in words, and @names in a text: whom they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from store.core.schemas import PersonName


class Action(NamedTuple):
    """kind: several commands may be of one. words: after a name, before a subject: "Ada launched Run 5"."""

    kind: str
    words: str
    icon: str


ACTIONS: dict[str, Action] = {
    "import_dataset": Action("Imported", "imported", ":material/upload_file:"),
    "clean": Action("Cleaned", "made by cleaning", ":material/cleaning_services:"),
    "profile": Action("Measured", "measured", ":material/straighten:"),
    "export": Action("Exported", "exported", ":material/download:"),
    "launch": Action("Launched", "launched", ":material/rocket_launch:"),
    "bundle": Action("Exported", "bundled", ":material/deployed_code_update:"),
    "open_bundle": Action("Imported", "opened the bundle", ":material/deployed_code_update:"),
    "reproduce": Action("Launched", "reproduced", ":material/rocket_launch:"),
    "launch_sample": Action("Launched", "launched the sample experiment", ":material/rocket_launch:"),
    "prepare_sample": Action("Imported", "prepared the sample experiment", ":material/upload_file:"),
    "keep_variant": Action("Launched", "kept a mix as", ":material/linear_scale:"),
    "interpolate": Action("Evaluated", "scored shares of the way of", ":material/linear_scale:"),
    "evaluate": Action("Evaluated", "evaluated", ":material/fact_check:"),
    "check_bias": Action("Evaluated", "checked for bias", ":material/balance:"),
    "judge": Action("Evaluated", "asked a judge about", ":material/gavel:"),
    "judge_requests": Action("Evaluated", "asked a judge about the requests of", ":material/gavel:"),
    "transfer": Action("Evaluated", "measured", ":material/grid_on:"),
    "register_model": Action("Registered", "registered", ":material/deployed_code:"),
    "promote": Action("Promoted", "promoted", ":material/verified:"),
    "move_back": Action("Promoted", "went back with", ":material/undo:"),
    "remove_alias": Action("Promoted", "took an alias from", ":material/label_off:"),
    "describe_model": Action("Changed", "described", ":material/edit:"),
    "set_gate": Action("Changed", "changed the gate of", ":material/rule:"),
    "gather_gate_evidence": Action("Evaluated", "gathered evidence on", ":material/fact_check:"),
    "delete_version": Action("Deleted", "deleted a version of", ":material/delete:"),
    "begin_improvement": Action("Improved", "began to improve", ":material/autorenew:"),
    "decide_improvement": Action("Improved", "decided on an improvement of", ":material/how_to_vote:"),
    "resume_improvement": Action("Improved", "went on improving", ":material/resume:"),
    "stop_improvement": Action("Improved", "stopped an improvement of", ":material/stop_circle:"),
    "schedule_improvement": Action("Improved", "set a schedule to improve", ":material/schedule:"),
    "unschedule_improvement": Action("Improved", "ended the schedule of", ":material/event_busy:"),
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
    "set_team": Action("Governed", "changed sign-in of", ":material/group:"),
    "allow_network": Action("Governed", "allowed addresses in", ":material/lan:"),
    "refuse_network": Action("Governed", "no longer allows addresses in", ":material/lan:"),
    "invite": Action("Governed", "invited somebody to", ":material/person_add:"),
    "take_back_invitation": Action("Governed", "took back an invitation to", ":material/person_remove:"),
    "reset_password": Action("Governed", "gave a new way in to", ":material/key:"),
    "set_role": Action("Governed", "changed the role of", ":material/badge:"),
    "set_active": Action("Governed", "changed the account of", ":material/person_off:"),
    "end_sessions": Action("Governed", "signed out", ":material/logout:"),
    "use_kept_rows": Action("Imported", "made out of kept answers", ":material/dataset:"),
    "delete_conversation": Action("Deleted", "deleted the conversation", ":material/delete:"),
    "make_endpoint": Action("Served", "made the endpoint", ":material/dns:"),
    "change_endpoint": Action("Served", "changed the endpoint", ":material/dns:"),
    "start_endpoint": Action("Served", "started the endpoint", ":material/play_circle:"),
    "stop_endpoint": Action("Served", "stopped the endpoint", ":material/stop_circle:"),
    "delete_endpoint": Action("Deleted", "deleted the endpoint", ":material/delete:"),
    "make_key": Action("Served", "made a key of", ":material/key:"),
    "revoke_key": Action("Served", "revoked a key of", ":material/key_off:"),
    "set_monitor": Action("Watched", "changed", ":material/monitoring:"),
    "acknowledge_alert": Action("Watched", "has seen an alert of", ":material/notifications:"),
    "set_webhook": Action("Governed", "changed", ":material/webhook:"),
    "try_webhook": Action("Governed", "tried", ":material/webhook:"),
    "cancel": Action("Cancelled", "cancelled", ":material/stop_circle:"),
    "resume": Action("Resumed", "resumed", ":material/resume:"),
    "export_model": Action("Exported", "exported the model", ":material/output:"),
    "verify_model": Action("Exported", "verified an export of", ":material/verified:"),
    "delete_export": Action("Deleted", "deleted the export", ":material/delete:"),
    "delete": Action("Deleted", "deleted", ":material/delete:"),
    "delete_dataset": Action("Deleted", "deleted", ":material/delete:"),
    "rename_dataset": Action("Changed", "renamed", ":material/edit:"),
    "set_split": Action("Changed", "changed the split of", ":material/call_split:"),
    "edit_run": Action("Changed", "changed", ":material/edit:"),
    "set_price": Action("Changed", "changed", ":material/settings:"),
    "save_recipe": Action("Saved", "saved the recipe", ":material/bookmark:"),
    "delete_recipe": Action("Deleted", "deleted the recipe", ":material/delete:"),
    "save_slice": Action("Saved", "saved the slice", ":material/bookmark:"),
    "delete_slice": Action("Deleted", "deleted the slice", ":material/delete:"),
    "comment": Action("Commented", "commented on", ":material/comment:"),
    "edit_comment": Action("Commented", "changed a comment on", ":material/comment:"),
    "delete_comment": Action("Commented", "deleted a comment on", ":material/comment:"),
}


def get_action(command: str) -> Action:
    """Of a command by name; one that a newer Tunebench wrote goes by its name."""
    return ACTIONS.get(command) or Action("Other", command.replace("_", " "), ":material/history:")


def group_commands_by_kind() -> dict[str, tuple[str, ...]]:
    """Kind of action -> its commands, in the order of the table."""
    commands: dict[str, tuple[str, ...]] = {}
    for name, action in ACTIONS.items():
        commands[action.kind] = (*commands.get(action.kind, ()), name)
    return commands


def resolve_mentions(text: str, people: Sequence[PersonName]) -> list[PersonName]:
    """The people whom `text` names by @, each once, in the order of the text. Of names that begin alike the
    longest counts; case does not."""
    mentioned = [piece for piece in split_mentions(text, people) if not isinstance(piece, str)]
    return list({person["person_id"]: person for person in mentioned}.values())


def split_mentions(text: str, people: Sequence[PersonName]) -> list[str | PersonName]:
    """The text, with a person in place of each @name of `people`."""
    by_name = {person["name"].lower(): person for person in people}
    longest_first = sorted(by_name, key=len, reverse=True)
    if not longest_first:
        return [text]
    # An address such as ada@example.org names nobody, nor does the beginning of a longer word.
    names = re.compile(rf"(?<!\w)@({'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
    parts: list[str | PersonName] = []
    end = 0
    for match in names.finditer(text):
        person = by_name.get(match[1].lower())
        if person is None:  # a letter that has more than one lower case
            continue
        parts += [text[end : match.start()], person]
        end = match.end()
    return [part for part in [*parts, text[end:]] if part]
