"""The features of the project, and what each declares in the store.

A feature has a room of the same name in each house. The core reaches it through `FEATURES` only: deleting its
rooms and its line there removes the feature.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from store.core.errors import StateError
from store.core.schemas import Job, Right, SubjectKind

FEATURES: tuple[str, ...] = (
    "rating",
    "serving",
    "monitoring",
    "retraining",
    "registry",
    "export",
    "bias",
    "playground",
    "transfer",
    "archives",
)  # fmt: skip

House = Literal["store", "engine", "pages", "tunebench.commands"]
Lane = Literal["device", "beside", "light"]
RequiredRight = (
    Right | Literal["name", "nobody", "door"]
)  # of a route: the right of the name in it; none at all; that of the screens' token


@dataclass(frozen=True)
class JobKind:
    """A kind of job. title and icon: as shown in the overview. lane: `device` runs one job at a time per
    device; `light` runs one at a time; `beside` runs one at a time, on an idle device or else on the
    processor next to whatever runs there. If the lane depends on the request, the most demanding one.

    is_run: has a row in table `run`. is_ask: is answered while someone waits, and has no row at all.
    makes_dataset: the name in its config is reserved while the job is alive. in_background: nobody waits for
    it, so it starts last in the light lane and delays nothing. leaves_columns: its Parquet files are orphaned
    if it did not finish. without_models: started in its own process if the model libraries are not loaded
    yet, because that is faster. needs_past: the engine adds the measurements of earlier runs to its body.
    logged_texts: the file in its folder with texts of a request log, deleted however the job ends, because
    logs have a limited retention in days. is_open_ended: lives as long as people use it, and has no row
    either. find_subject: kind, id and name of what it works for, if that is not the job itself.
    """

    name: str
    title: str
    module: str
    lane: Lane = "light"
    icon: str = ":material/work:"
    is_run: bool = False
    is_ask: bool = False
    makes_dataset: bool = False
    in_background: bool = False
    leaves_columns: bool = False
    without_models: bool = False
    needs_past: bool = False
    logged_texts: str = ""
    is_open_ended: bool = False
    find_subject: Callable[[Job], tuple[SubjectKind, str, str]] | None = None

    @property
    def has_row(self) -> bool:
        """Whether the job has a row, and thus visible progress."""
        return not self.is_ask and not self.is_open_ended


class Action(NamedTuple):
    """What a command does, in words. kind: shared by several commands if they do the same. words: placed
    after a name and before a subject: "Ada launched Run 5".
    """

    kind: str
    words: str
    icon: str


class FileKind(NamedTuple):
    """A kind of file that people write. config: "module:Class" with its fields. command: the one that reads
    it.
    """

    name: str
    title: str
    config: str
    command: str


class RunSwitch(NamedTuple):
    """A switch in the config of a run, off by default. after: the preceding field, also on the form. check:
    "module:function" that yields (field, reason) for settings it can't be combined with.
    """

    name: str
    after: str
    description: str
    check: str


Names = Mapping[Right, str]  # right -> space-separated names


@dataclass(frozen=True)
class StoreFeature:
    """What a feature declares, as `FEATURE` in `store/<name>/feature.py`: its kinds of job, and who may
    request what (`store.core.rights`). actions: of its commands, shown in the activity. queries: by module
    in its room. titles: of the things its documents name, for features that display them. files: kinds
    that people write, for docs/configuration.md. scheduled_check: "module:Class" of what a monitor can
    request from it repeatedly, by the feature's name. run_switches: switches it adds to the config of a
    run. find_version: "module:function" that resolves NAME@NUMBER or NAME@ALIAS to the registered version
    in a store; raises NotFoundError.
    """

    job_kinds: tuple[JobKind, ...] = ()
    asks: Names = field(default_factory=dict)
    commands: Names = field(default_factory=dict)
    actions: Mapping[str, Action] = field(default_factory=dict)
    queries: Mapping[Right, Mapping[str, str]] = field(default_factory=dict)
    tools: Names = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    files: tuple[FileKind, ...] = ()
    scheduled_check: str = ""
    run_switches: tuple[RunSwitch, ...] = ()
    find_version: str = ""


def check_same_names(what: str, declared: Iterable[str], handled: Iterable[str]) -> None:
    """Raise StateError if something declared in one house has no counterpart in another, or the other way
    around.
    """
    names, parts = set(declared), set(handled)
    if missing := sorted(names - parts):
        raise StateError(f"The {what} {missing[0]} is declared, and nothing is done for it.")
    if gone := sorted(parts - names):
        raise StateError(f"The {what} {gone[0]} is not declared.")


@functools.cache
def load_features(house: House) -> Mapping[str, Any]:
    """Return what each feature declares in a house, by feature name. A feature without `feature.py` there
    declares nothing; errors inside one are raised.
    """
    declared = {}
    for name in FEATURES:
        module = f"{house}.{name}" if house == "tunebench.commands" else f"{house}.{name}.feature"
        if importlib.util.find_spec(module.rpartition(".")[0]) and importlib.util.find_spec(module):
            declared[name] = importlib.import_module(module).FEATURE
    return declared


def load_store_features() -> Mapping[str, StoreFeature]:
    """Return what the features declare in the store, by feature name."""
    features: Mapping[str, StoreFeature] = load_features("store")
    return features


def resolve_name(reference: str) -> Any:
    """Import and return the object "module:name". Raises ImportError and AttributeError if there is none."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def find_title(name: str) -> str:
    """Return a feature's title for a name in a document; the name itself if no feature has one."""
    return next((f.titles[name] for f in load_store_features().values() if name in f.titles), name)
