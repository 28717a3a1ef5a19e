"""Tabs by link: the open one alone does its work, and choices outlast a look at another tab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.shared.middleware import REDIRECT_TARGETS
from store.core.home import Home
from store.runs import run_outcomes, runs
from store.transfer import transfers
from tests.pages.conftest import Open
from tests.pages.run.run_tabs import on_tab, tab_titles
from tests.pages.seeds.seed_costs import seed_costs
from tests.pages.seeds.seed_transfer import seed_transfer
from tests.pages.still_engine import StillEngine, still_engine

ROOT = Path(__file__).parents[2]
COMPARE, RUN = "pages/comparison/compare.py", "pages/runs/run.py"
READS = {
    "side": (runs, "count_runs"),
    "cost": (run_outcomes, "costs"),
    "transfer": (transfers, "newest"),
}


def seeded_home(path: Path) -> Home:
    """Runs on the plot, and data sets on which they can be judged."""
    seed_transfer(path, count=0, sets=2, measured=False)
    return seed_costs(path)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    with still_engine(seeded_home(tmp_path_factory.mktemp("costs"))) as engine:
        yield engine


def counted(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> list[str]:
    """A read's name for each time it is done from now on."""
    done: list[str] = []
    real = getattr(where, name)

    def read(*args: Any, **options: Any) -> Any:
        done.append(name)
        return real(*args, **options)

    monkeypatch.setattr(where, name, read)
    return done


@pytest.mark.parametrize(
    ("tab", "title"),
    [
        ("", "Compare"),
        ("side", "Compare"),
        ("nothing", "Compare"),
        ("curves", "Curves"),
        ("cost", "Gain and forgetting"),
        ("transfer", "Transfer"),
    ],
)
def test_the_link_opens_a_tab_of_compare(engine: StillEngine, open_page: Open, tab: str, title: str) -> None:
    at = open_page(engine.home, COMPARE, **({"tab": tab} if tab else {}))
    assert [heading.value for heading in at.title] == [title]
    assert tab_titles(at) == ["Side by side", "Curves", "Gain and forgetting", "Transfer"]


def test_a_tab_of_another_page_in_the_link_leaves_open_what_was(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, COMPARE, tab="cost")
    on_tab(at, "between")  # as Back finds it after a button that led from here to that tab of a run
    assert at.title[0].value == "Gain and forgetting"


@pytest.mark.parametrize("tab", READS)
def test_the_open_tab_alone_reads(
    engine: StillEngine, open_page: Open, monkeypatch: pytest.MonkeyPatch, tab: str
) -> None:
    done = {name: counted(monkeypatch, *read) for name, read in READS.items()}
    open_page(engine.home, COMPARE, tab=tab)
    assert [name for name, reads in done.items() if reads] == [tab]


def test_a_tab_of_a_run_that_is_not_open_reads_nothing(
    engine: StillEngine, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = counted(monkeypatch, run_outcomes, "measured_shares")
    at = open_page(engine.home, RUN, run="lora-0.003")
    assert not done
    on_tab(at, "between")
    assert done


def test_choices_outlast_a_look_at_another_tab(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, COMPARE, runs="lora-0.001,lora-0.003")
    on_tab(at, "cost")
    at.segmented_control(key="forgetting").set_value("kl").run()
    on_tab(at, "transfer")
    at.multiselect(key="matrix-runs").set_value(["full-1e-05"]).run()
    assert at.query_params["runs"] == "lora-0.001,lora-0.003"
    on_tab(at, "cost")
    assert at.segmented_control(key="forgetting").value == "kl"
    on_tab(at, "side")
    assert at.multiselect(key="compare-runs").value == ["lora-0.001", "lora-0.003"]
    on_tab(at, "transfer")
    assert at.multiselect(key="matrix-runs").value == ["full-1e-05"]


def test_a_base_model_that_another_tab_does_not_have_is_no_error(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seeded_home(tmp_path / "models")) as engine:
        with engine.database.transaction() as tx:
            tx.execute("UPDATE run SET model = 'other/second' WHERE run_id IN ('lora-0.001', 'lora-0.003')")
            tx.execute("UPDATE run SET model = 'other/third' WHERE run_id = 'pairs'")
        at = open_page(engine.home, COMPARE, tab="transfer")
        at.selectbox(key="model").set_value("other/third").run()
        on_tab(at, "cost")
        assert at.selectbox(key="model").index == 0
        assert len(at.selectbox(key="model").options) == 2


@pytest.mark.parametrize("old", REDIRECT_TARGETS)
def test_where_old_addresses_lead_there_is_that_tab(engine: StillEngine, open_page: Open, old: str) -> None:
    place = REDIRECT_TARGETS[old]
    (page,) = ROOT.glob(f"pages/*{place.page}.py")
    path = str(page.relative_to(ROOT))
    at = open_page(engine.home, path, tab=place.tab)
    first = open_page(engine.home, path, run="lora-0.003")
    assert headings(at) != headings(first)
    for name in place.renamed.values():
        assert at.get_by_key(name)


def headings(at: AppTest) -> list[str]:
    return [heading.value for heading in [*at.title, *at.header]]


@pytest.mark.parametrize("tab", ["side", "curves"])
def test_without_any_run_a_tab_leads_to_the_first(empty_home: Home, open_page: Open, tab: str) -> None:
    at = open_page(empty_home, COMPARE, tab=tab)
    assert any("No runs to compare yet" in text.value for text in at.markdown)
