"""What an agent is told of seeded runs: which can be told apart, and which must not be called better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from store.core.errors import ConfigError
from store.http.client import Client
from tests.pages.seeds.seed_runs import seed_runs
from tests.pages.still_engine import still_engine
from tunebench.agents.evaluation import CompareTools
from tunebench.agents.queries import ReadTools


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with still_engine(seed_runs(tmp_path_factory.mktemp("agents") / "home")) as engine:
        client = Client(engine.home)
        yield client
        client.close()


def compared(store: Client, *names: str) -> list[dict[str, Any]]:
    answer: Any = CompareTools(lambda: store).compare_runs(list(names))
    return list(answer["differences"])


def test_runs_are_told_apart_or_it_is_said_why_not(store: Client) -> None:
    (sure,) = compared(store, "overfit", "worse")
    assert sure["separated"]
    assert sure["sentence"].startswith(
        "Full, 8 epochs (overfit) is better than LoRA, rate too high (worse) by"
    )
    assert sure["second_minus_first_loss"].low > 0
    (seeds,) = compared(store, "learned", "twin")
    assert not seeds["separated"]
    assert "differ in their seed alone" in seeds["sentence"]
    three = compared(store, "learned", "twin", "overfit")
    assert [one_of["separated"] for one_of in three] == [False] * 3
    assert "whose variation also counts" in three[2]["sentence"]
    (running,) = compared(store, "learned", "live")
    assert "has no gain: it is training" in running["sentence"]
    with pytest.raises(ConfigError, match="one run to compare"):
        compared(store, "learned", "learned")


def test_a_gain_is_said_with_what_it_rests_on(store: Client) -> None:
    answer: Any = ReadTools(lambda: store).list_runs(limit=50)
    gains = {run["run_id"]: run["gain"] for run in answer["runs"]}
    assert gains["worse"].endswith("n 200); significantly below 0")
    assert gains["learned"].endswith("n 200); significantly above 0")
    assert gains["live"] == "not known"


def test_an_agent_reads_how_often_runs_were_compared_on_the_same_rows(store: Client) -> None:
    compare = CompareTools(lambda: store).compare_runs
    compare(["learned", "overfit", "worse"])
    (looks,) = compare(["learned", "overfit"])["looks"]
    assert "have been compared on these" in looks
    assert "without some runs of an earlier set" in looks
