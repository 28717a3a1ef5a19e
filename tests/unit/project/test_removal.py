"""A feature leaves with its rooms and its line in the registry, and the core does not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.core.features import FEATURES
from tests.unit.project.removal import copy_without, run_in

REMOVABLE = ("playground", "transfer", "export", "bias", "archives")
# Of the core's tests those that reach furthest; `make removal` runs all of them, without one feature after
# the other.
FURTHEST = ("tests/unit/config", "tests/unit/people", "tests/unit/store/test_roles.py", "tests/unit/screens")
# Each module of each house is imported, and each table is held against what there is.
START = """
import importlib, logging, pkgutil, sys, tempfile
from pathlib import Path

logging.disable()
sys.argv = ["start"]
import engine, pages, store, tunebench
for house in (store, engine, pages, tunebench):
    for module in pkgutil.walk_packages(house.__path__, house.__name__ + "."):
        try:
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # a program of others that is not installed here
            if error.name.split(".")[0] in ("engine", "pages", "store", "tunebench"):
                raise
        except Exception as error:  # a screen without a browser: what it imports is imported by then
            if not type(error).__module__.startswith(("streamlit", "store.")):
                raise
from engine.commands import Commands
from engine.job_handlers import HANDLERS
from engine.server.people_commands import People
from store.core.job_kinds import ASKS, JOB_KINDS
from store.core.rights import check_complete
from store.db.named_query import load_queries
from tests.unit.store_samples import new_store
from tunebench.agents.server import AgentServer
from tunebench.cli import cli

load_queries()
AgentServer(lambda: None)
check_complete("ask", ASKS)
home, database = new_store(Path(tempfile.mkdtemp()))
people = People(database, "token", "screens").commands
check_complete("command", Commands(database, home, lambda name, body: {}, people=people).table())
assert set(HANDLERS.by_kind) == {name for name, kind in JOB_KINDS.items() if kind.has_row}
assert cli.registered_commands
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("feature", REMOVABLE)
def test_all_starts_without_a_feature(tmp_path: Path, feature: str) -> None:
    copy_without([feature], tmp_path / "copy")
    run_in(tmp_path / "copy", "-c", START)


@pytest.mark.timeout(600)
def test_the_core_alone_starts_and_passes_its_tests(tmp_path: Path) -> None:
    tests = copy_without(FEATURES, tmp_path / "copy")
    run_in(tmp_path / "copy", "-c", START)
    assert len(tests) > 150
    chosen = [test for test in tests if test.startswith(FURTHEST)]
    assert len(chosen) > 30
    run_in(tmp_path / "copy", "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen)
