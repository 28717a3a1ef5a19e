"""Who may name what lies on the engine's machine: its owner any path, everybody else what the store knows.

A path that a request brings has the engine read files with the rights of its user, and tells whoever asks
whether they are there. So only whoever has the home folder names paths; for others a model is one of the home
folder's models, a registered version, a run, or an id of a hub, and a file is one that was uploaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel

from store.config.data.data_config import CleanPreviewAsk
from store.config.data.import_config import Wishes
from store.config.judging.round_config import FileOfRows, ImportRound
from store.config.training.ask_config import CostsAsk, RenderingAsk
from store.config.training.train_config import BUNDLED_MODEL, TrainConfig
from store.contract.document import Config
from store.contract.errors import ForbiddenError
from store.contract.home import Home
from store.contract.named_sources import NamedSource, may_be_path, named_in, named_in_part
from store.contract.roles import RIGHTS, is_owner
from store.contract.version_folders import is_reference
from store.documents.tables.person import Person

# Of each ask that names something, what its body is checked by.
ASK_BODIES: Mapping[str, type[Config]] = {
    "preview": CostsAsk,
    "advice": CostsAsk,
    "rendering": RenderingAsk,
    "inspect": Wishes,
    "prompts": FileOfRows,
    "ratings_file": ImportRound,
    "clean_preview": CleanPreviewAsk,
}
ADDRESSES = ("https://", "http://")


def check_sources_named(body: BaseModel, person: Person, home: Home) -> None:
    """Raise ForbiddenError, with the field, where somebody who isn't the machine's owner names a path."""
    if not is_owner(person):
        _check(named_in(body), home)


def asks_checked(home: Home) -> Callable[[str, Mapping[str, object], Person], None]:
    """The same for bodies of asks, which nobody has checked yet. Raises ConfigError for a bad one."""

    def check(name: str, body: Mapping[str, object], person: Person) -> None:
        if is_owner(person) or name not in ASK_BODIES:
            return
        asked = ASK_BODIES[name].parse(dict(body))
        named = [*named_in(asked)]
        if isinstance(asked, CostsAsk):
            named += named_in_part(TrainConfig, asked.config, "config")
        _check(named, home)
        if "work" not in RIGHTS[person["role"]]:
            _check_here(named, home)

    return check


def _check(named: Iterable[NamedSource], home: Home) -> None:
    for each in named:
        if each.value and not _may_name(each, home):
            raise _refused(each, home)


def _check_here(named: Iterable[NamedSource], home: Home) -> None:
    """Raise ForbiddenError for a model that would be fetched from a hub."""
    for each in named:
        if each.kind == "model" and each.value and not _is_here(each.value, home):
            raise ForbiddenError(
                f"{each.value[:200]} is none of the models here; to fetch it from the hub takes a member.",
                fix="Choose one of the models of the home folder.",
                field=each.field,
            )


def _is_here(model: str, home: Home) -> bool:
    return is_reference(model) or model == BUNDLED_MODEL or _is_own_model(model, home)


def _may_name(named: NamedSource, home: Home) -> bool:
    """Whether it is no path, or that of a file which people have brought."""
    if named.kind == "folder":
        return False
    if named.kind == "file":
        return _was_brought(named.value, home)
    if named.kind == "subject" and named.value.startswith(ADDRESSES):
        return True
    if _is_here(named.value, home):
        return True
    return not may_be_path(named.value, of_run=named.kind == "subject")


def _is_own_model(name: str, home: Home) -> bool:
    return Path(name).name == name and name != ".." and (home.models / name).is_dir()


def _was_brought(path: str, home: Home) -> bool:
    """Whether the file is an upload, an export or the rows of a data set."""
    if "\0" in path or not os.path.isabs(path):
        return False
    inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(home.path))
    return inside and not home.holds(Path(path))


def _refused(named: NamedSource, home: Home) -> ForbiddenError:
    fixes = {
        "file": "Upload the file instead.",
        "folder": "Ask the owner of the machine to register it; then anybody can name it as NAME@1.",
    }
    of_model = (
        f"Ask the owner of the machine to link the folder into {home.models}, or to register it; then name it"
        " by that name. Ids such as owner/name are those of the hub."
    )
    return ForbiddenError(
        f"Only the owner of the engine's machine names a path on it: {named.value[:200]}.",
        fix=fixes.get(named.kind, of_model),
        field=named.field,
    )
