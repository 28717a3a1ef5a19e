"""Descriptions of commands for the activity, and resolution of @mentions in text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from store.core.features import Action, load_store_features
from store.core.schemas import PersonName

# Actions by command; features declare their own.
ACTIONS: dict[str, Action] = {
    "import_dataset": Action("Imported", "imported", ":material/upload_file:"),
    "clean": Action("Cleaned", "created by cleaning", ":material/cleaning_services:"),
    "profile": Action("Measured", "measured", ":material/straighten:"),
    "export": Action("Exported", "exported", ":material/download:"),
    "launch": Action("Launched", "launched", ":material/rocket_launch:"),
    "launch_sample": Action("Launched", "launched the sample experiment", ":material/rocket_launch:"),
    "prepare_sample": Action("Imported", "prepared the sample experiment", ":material/upload_file:"),
    "keep_variant": Action("Launched", "saved a mix as", ":material/linear_scale:"),
    "interpolate": Action("Evaluated", "evaluated interpolations of", ":material/linear_scale:"),
    "evaluate": Action("Evaluated", "evaluated", ":material/fact_check:"),
    "judge": Action("Evaluated", "ran a judge on", ":material/gavel:"),
    "set_team": Action("Governed", "changed sign-in of", ":material/group:"),
    "allow_network": Action("Governed", "allowed network addresses in", ":material/lan:"),
    "refuse_network": Action("Governed", "disallowed network addresses in", ":material/lan:"),
    "invite": Action("Governed", "invited a person to", ":material/person_add:"),
    "take_back_invitation": Action("Governed", "revoked an invitation to", ":material/person_remove:"),
    "reset_password": Action("Governed", "created a password reset link for", ":material/key:"),
    "set_role": Action("Governed", "changed the role of", ":material/badge:"),
    "set_active": Action("Governed", "changed the account of", ":material/person_off:"),
    "end_sessions": Action("Governed", "signed out", ":material/logout:"),
    "cancel": Action("Cancelled", "cancelled", ":material/stop_circle:"),
    "resume": Action("Resumed", "resumed", ":material/resume:"),
    "delete": Action("Deleted", "deleted", ":material/delete:"),
    "delete_dataset": Action("Deleted", "deleted", ":material/delete:"),
    "rename_dataset": Action("Changed", "renamed", ":material/edit:"),
    "set_split": Action("Changed", "changed the split of", ":material/call_split:"),
    "edit_run": Action("Changed", "changed", ":material/edit:"),
    "organize_runs": Action("Changed", "organized", ":material/label:"),
    "set_price": Action("Changed", "changed", ":material/settings:"),
    "save_recipe": Action("Saved", "saved the recipe", ":material/bookmark:"),
    "delete_recipe": Action("Deleted", "deleted the recipe", ":material/delete:"),
    "save_slice": Action("Saved", "saved the slice", ":material/bookmark:"),
    "delete_slice": Action("Deleted", "deleted the slice", ":material/delete:"),
    "comment": Action("Commented", "commented on", ":material/comment:"),
    "edit_comment": Action("Commented", "changed a comment on", ":material/comment:"),
    "delete_comment": Action("Commented", "deleted a comment on", ":material/comment:"),
    **{
        name: action for feature in load_store_features().values() for name, action in feature.actions.items()
    },
}


def get_action(command: str) -> Action:
    """Return the action of a command; one of a newer Tunebench is described by its name."""
    return ACTIONS.get(command) or Action("Other", command.replace("_", " "), ":material/history:")


def group_commands_by_kind() -> dict[str, tuple[str, ...]]:
    """Return kind of action -> its commands, in table order."""
    commands: dict[str, tuple[str, ...]] = {}
    for name, action in ACTIONS.items():
        commands[action.kind] = (*commands.get(action.kind, ()), name)
    return commands


def resolve_mentions(text: str, people: Sequence[PersonName]) -> list[PersonName]:
    """Return the people whom `text` mentions with @, each once, in text order. Of names with a common
    beginning the longest match counts, ignoring case.
    """
    mentioned = [piece for piece in split_mentions(text, people) if not isinstance(piece, str)]
    return list({person.person_id: person for person in mentioned}.values())


def split_mentions(text: str, people: Sequence[PersonName]) -> list[str | PersonName]:
    """Return the parts of the text, with a person in place of each @name of `people`."""
    by_name = {person.name.lower(): person for person in people}
    longest_first = sorted(by_name, key=len, reverse=True)
    if not longest_first:
        return [text]
    # Neither an address such as ada@example.org nor the beginning of a longer word is a mention.
    names = re.compile(rf"(?<!\w)@({'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
    parts: list[str | PersonName] = []
    end = 0
    for match in names.finditer(text):
        person = by_name.get(match[1].lower())
        if person is None:  # a letter with more than one lowercase form
            continue
        parts += [text[end : match.start()], person]
        end = match.end()
    return [part for part in [*parts, text[end:]] if part]
