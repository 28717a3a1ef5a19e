"""Preference tuning and continuing on the screens: the task is asked where there are pairs, the verdict has
its own numbers, and a finished run leads to the next."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from pages.data.explore import row_filter
from store.core.home import Home
from store.core.job_kinds import ALIVE
from store.http.client import Client
from store.jobs.job_queue import get_job
from tests.pages.conftest import Open, everything_said, running_engine
from tests.pages.seeds.seed import seed
from tests.tiny import conversations, worse_answers, write_model

TASK = "launch.task"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A data set of pairs and one of conversations, and a finished preference run named Preferred."""
    folder = tmp_path_factory.mktemp("pairs")
    home = seed(folder / "home", runs=0, sets=1, rows=200)
    write_model(home.models / "tiny-llama")
    rows = conversations(80)
    rows_with_worse = zip(rows, worse_answers(rows), strict=True)
    pairs = [
        {"prompt": row[0]["content"], "chosen": row[1]["content"], "rejected": worse}
        for row, worse in rows_with_worse
    ]
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, pairs)))
    config = {"dataset": "pairs", "model": "tiny-llama", "name": "Preferred", "task": "dpo", "r": 4}
    quick = {"num_train_epochs": 2, "learning_rate": 5e-3, "sample_prompts": 1, "evaluations": 2}
    with running_engine(home):
        client = Client(home)
        _wait(client, client.command("import_dataset", {"source": {"path": str(file)}})["job_id"])
        _wait(client, client.command("launch", {**config, **quick})["run_id"])
        yield home


def _wait(client: Client, job_id: str) -> None:
    end = time.monotonic() + 120
    while (job := get_job(client, job_id)).status in ALIVE:
        assert time.monotonic() < end, f"{job_id} takes too long"
        time.sleep(0.1)
    assert job.status == "finished", job.error


@pytest.mark.usefixtures("untimed")
def test_the_task_is_asked_where_there_are_pairs(home: Home, open_page: Open) -> None:
    pairs = next(row for row in _datasets(home) if row["kind"] == "preference")
    link = {"dataset": pairs["dataset_id"], "change": '{"model": "tiny-llama"}'}
    at = open_page(home, "pages/training/launch.py", **link)
    assert at.get_by_key(TASK).value == "dpo"
    page_text = everything_said(at)
    for words in ("Pairs to train on", "Chosen answer", "Rejected answer", "both answers of each pair"):
        assert words in page_text
    assert "launch.beta" in [field.key for field in at.text_input]
    assert at.text_input(key="launch.learning_rate").placeholder == "0.00001 (automatic)"
    at.get_by_key(TASK).set_value("sft").run()
    assert "Rows to train on" in everything_said(at)
    assert "launch.beta" not in [field.key for field in at.text_input]
    at.selectbox(key="launch.dataset").select(_other(home)).run()
    assert at.session_state[TASK] == "sft"
    assert "Instruction tuning (SFT) on the chosen answers" not in everything_said(at)


def test_a_pair_is_shown_with_both_answers_on_the_page_of_its_data(home: Home, open_page: Open) -> None:
    pairs = next(row for row in _datasets(home) if row["kind"] == "preference")["dataset_id"]
    at = open_page(home, "pages/data/data.py", dataset=pairs)
    at.session_state[row_filter.tabs_key(pairs)] = ":material/visibility: Model view"
    at.session_state[f"rendering-{pairs}-model"] = "tiny-llama"
    at.run()
    chosen, rejected = everything_said(at).split("Chosen answer")[1].split("Rejected answer")
    assert all("class='trained" in part for part in (chosen, rejected))
    assert "trained on" in chosen
    assert "made less likely" in rejected
    assert "trained on" not in rejected


def _datasets(home: Home) -> list[dict[str, str]]:
    return Client(home).people.query("SELECT dataset_id, name, kind FROM dataset").to_pylist()


def _other(home: Home) -> str:
    return next(row["name"] for row in _datasets(home) if row["kind"] == "chat")


def test_the_verdict_stands_in_its_own_numbers(home: Home, open_page: Open) -> None:
    at = open_page(home, "pages/runs/run.py", run="Preferred")
    labels = [metric.label for metric in at.metric]
    assert labels[:4] == [
        *("Chosen answer preferred", "Preference loss", "Chosen answers, nats", "Rejected answers, nats"),
    ]
    page_text = everything_said(at)
    assert "Preference tuning" in page_text
    assert "chance is 50%" in page_text
    assert "Perplexity" not in page_text


@pytest.mark.usefixtures("untimed")
def test_a_finished_run_leads_to_one_that_continues_it(home: Home, open_page: Open) -> None:
    run_id = Client(home).people.query("SELECT run_id FROM run_overview")["run_id"][0].as_py()
    assert "run-continue" in [
        button.key for button in open_page(home, "pages/runs/run.py", run=run_id).button
    ]
    at = open_page(
        home, "pages/training/launch.py", **{"from": run_id, "change": json.dumps({"init_from": run_id})}
    )
    assert at.selectbox(key="launch.init_from").value == run_id
    assert at.text_input(key="launch.name").value == "Preferred continued"
    assert not at.button(key="launch-button").disabled
    at.get_by_key("launch.method").set_value("full").run()
    page_text = everything_said(at)
    assert "method is full, and the adapter of 'Preferred' was trained with lora" in page_text
    assert at.button(key="launch-button").disabled
    at.get_by_key("launch.init_mode").set_value("merge").run()
    assert not at.button(key="launch-button").disabled
