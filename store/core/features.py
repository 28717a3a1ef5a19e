"""The features of the project, and what each declares in the store.

A feature is a room of the same name in each house. The core reaches it by `FEATURES` alone: whoever removes
its rooms and its line there has removed the feature.
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
)  # of a route: the right of the name in it; none at all; that of the screens


@dataclass(frozen=True)
class JobKind:
    """One kind. title and icon: as the overview names it. lane: device has one job a device at a time, light
    one at a time; beside one at a time, on a device that nobody wants or else on the processor beside
    whatever works there; where it depends on what is asked, that of the most.

    is_run: it has a row in table `run`. is_ask: it is answered while someone waits, and has no row at all.
    makes_dataset: its config's name is taken while it lives. in_background: nobody waits for it, so it
    starts last in the light lane and holds up nothing. leaves_columns: its Parquet files belong to nobody
    where it did not finish. without_models: it starts sooner as a process of its own than once models can be
    loaded. needs_past: the engine adds to its body what earlier runs took. logged_texts: the file of its
    folder with texts of a log, which goes when it ends in any way: a log is kept for its days. is_open_ended:
    it lives as long as people use it, and has no row either. find_subject: the kind, id and name of what it
    works for, where that is another thing than the job.
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
        """Whether people see how far it is."""
        return not self.is_ask and not self.is_open_ended


class Action(NamedTuple):
    """What a command does, in words. kind: several commands may be of one. words: after a name, before a
    subject: "Ada launched Run 5"."""

    kind: str
    words: str
    icon: str


class FileKind(NamedTuple):
    """A kind of file that people write. config: "module:Class" with its fields. command: that reads it."""

    name: str
    title: str
    config: str
    command: str


class RunSwitch(NamedTuple):
    """A switch in the config of a run, off where nothing is said of it. after: the field before it, on the
    form too. check: "module:function" that yields (field, why) of what it can't be combined with."""

    name: str
    after: str
    description: str
    check: str


Names = Mapping[Right, str]  # right -> names, with spaces between them


@dataclass(frozen=True)
class StoreFeature:
    """What a feature declares of itself, as `FEATURE` in `store/<name>/feature.py`: its kinds of job, and who
    may ask for what (`store.core.rights`). actions: of its commands, which the activity shows. queries: by
    the module in its room. titles: of what its documents name, for features that show them. files: that
    people write, for docs/configuration.md. scheduled_check: "module:Class" of what a monitor can ask of it
    again and again, by the feature's name. run_switches: of what is to be done with a run.
    find_version: "module:function" for the registered version that NAME@NUMBER or NAME@ALIAS means now in a
    store; it raises NotFoundError.
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
    """Raise StateError where of what is declared in one house a part is missing in another, or is there of
    what is not declared."""
    names, parts = set(declared), set(handled)
    if missing := sorted(names - parts):
        raise StateError(f"The {what} {missing[0]} is declared, and nothing is done for it.")
    if gone := sorted(parts - names):
        raise StateError(f"The {what} {gone[0]} is not declared.")


@functools.cache
def load_features(house: House) -> Mapping[str, Any]:
    """What each feature declares in a house, by its name. One that has no `feature.py` there declares
    nothing; a fault within one is raised."""
    declared = {}
    for name in FEATURES:
        module = f"{house}.{name}" if house == "tunebench.commands" else f"{house}.{name}.feature"
        if importlib.util.find_spec(module.rpartition(".")[0]) and importlib.util.find_spec(module):
            declared[name] = importlib.import_module(module).FEATURE
    return declared


def load_store_features() -> Mapping[str, StoreFeature]:
    """What the features declare in the store, by their names."""
    features: Mapping[str, StoreFeature] = load_features("store")
    return features


def resolve_name(reference: str) -> Any:
    """What "module:name" means, imported now. Raises ImportError and AttributeError where there is none."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def find_title(name: str) -> str:
    """What a feature calls that which a document names; the name itself where none has a title for it."""
    return next((f.titles[name] for f in load_store_features().values() if name in f.titles), name)
