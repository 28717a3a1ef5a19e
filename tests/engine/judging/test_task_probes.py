"""Tasks of lm-evaluation-harness as probes of a run: paired item by item, remembered, and never its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from engine.evaluation.probes import harness
from engine.evaluation.verdicts.paired_measurements import OPEN_ENDED
from engine.training import train_job
from engine.worker.job import WorkerJob
from store.core.home import Home
from store.evaluation.forgetting_schemas import Forgetting
from tests.engine.job_events import QUICK, events, facts
from tests.engine.judging.test_data_probes import small_suite  # noqa: F401 (a fixture)
from tests.engine.tasks import CAPITALS, THERE, item, stand_in
from tests.shapes import held_to
from tests.tiny import conversations, make_job, write_model, write_rows

pytestmark = pytest.mark.usefixtures("small_suite")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny", tie_word_embeddings=False)
    write_rows(home, "rows", conversations(60))
    return home


class Asked:
    """A task that the models are right of at these items, in the order in which they are asked."""

    def __init__(self, *right: str, make: Callable[[int, bool], Any] | None = None) -> None:
        self.right, self.times, self.models = right, 0, []
        self.make = make or (lambda place, good: item(place, [-1.0, -2.0] if good else [-2.0, -1.0], 0))

    def __call__(self, model: Any) -> list[Any]:
        marks = self.right[min(self.times, len(self.right) - 1)]
        self.times += 1
        self.models.append("base" if adapters_off(model) else "tuned")
        return [self.make(place, mark == "+") for place, mark in enumerate(marks)]


def adapters_off(model: Any) -> bool:
    return any(getattr(part, "disable_adapters", False) is True for part in model.modules())


def free(place: int, good: bool) -> Any:
    return item(place, [-1.0], 0) | {
        "target": "a", "metrics": ["f1", "exact_match"], "arguments": [("Say a", {})],
        "filtered_resps": ["b"], "f1": 0.5, "exact_match": float(good),
    }  # fmt: skip


def trained(home: Home, name: str, tasks: Any, **fields: Any) -> tuple[WorkerJob, Forgetting]:
    settings = QUICK | {"probes": True, "max_steps": 2, "sample_prompts": 0} | fields
    job = make_job(home, name, probe_tasks=tasks, **settings)
    return job, held_to(Forgetting, train_job.run(job)["verdict"].forgetting)


def test_items_of_both_models_are_paired(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned, base = "-" * 13 + "+" * 7, "+" * 18 + "--"
    facts_task, wrote = Asked(tuned, base), Asked(tuned, base, make=free)
    stand_in(monkeypatch, {"facts": facts_task, "wrote": wrote})
    job, forgetting = trained(home, "run", "facts, wrote", probe_task_rows=20)
    assert facts_task.models == ["tuned", "base"]
    for name, options in (("task/facts", 2), ("task/wrote", OPEN_ENDED)):
        part = next(probe for probe in forgetting.choices if probe.probe == name)
        assert (part.lost, part.won, part.n) == (13, 2, 20)
        assert part.change.low < part.change.value == -0.55 < part.change.high < 0
        assert part.p == pytest.approx(0.0074, abs=1e-4)  # McNemar's exact test of 13 against 2
        rows = pq.read_table(job.dir.probes)
        rows = rows.filter(pc.equal(rows["probe"], name))
        assert rows["model"].to_pylist() == ["base"] * 20 + ["tuned"] * 20
        assert set(rows["options"].to_pylist()) == {options}
    assert "of 20 items of facts 13 went from right to wrong" in forgetting.headline
    assert forgetting.state == "much"
    assert forgetting.choices[0].probe == "choices"  # the suite's own come first
    asked = pq.read_table(job.dir.probe_items)
    assert asked["probe"].to_pylist().count("task/facts") == 20
    assert facts(job)["probe_tasks"][0] == {"name": "facts", "rows": 20, "reason": ""}


def test_a_base_is_asked_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Asked("++-+-+")
    stand_in(monkeypatch, {"facts": task})
    first, second = (trained(home, name, "facts")[1].choices[-1] for name in ("one", "two"))
    assert task.models == ["tuned", "base", "tuned"]
    assert first == second
    trained(home, "three", "facts", probe_task_rows=4)  # other items: asked anew
    assert task.models[3:] == ["tuned", "base"]


def test_what_cannot_be_asked_is_counted_and_the_run_stands(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Asked("++", make=lambda place, good: item(place, [-1, -2], 0, doc_id=place + other.times))
    odd = [item(0, [-1.0], 0) | {"target": "a", "filtered_resps": ["b"], "acc": 0.4}]
    stand_in(monkeypatch, {
        "hub": ConnectionError("no network."), "odd": odd, "moved": other, "facts": Asked("+-+"),
        "none": KeyError("none not found"),
    })  # fmt: skip
    job, forgetting = trained(home, "run", "hub, odd, moved, facts, none")
    assert [part.probe for part in forgetting.choices] == ["choices", "task/facts"]
    assert list(forgetting.unasked) == ["hub", "odd", "none", "moved"]
    sentence = forgetting.sentences[-1]
    assert sentence.startswith("Of 5 tasks 4 were not asked. The task hub can't be run: ConnectionError: no")
    assert "No metric of the task odd scores single items as right or wrong." in sentence
    assert "Task none not found" in sentence
    assert "The task moved used different items for the two models." in sentence
    assert [task["rows"] for task in facts(job)["probe_tasks"]] == [0, 0, 0, 3, 0]
    assert any(event["message"].startswith("Of 5 tasks 4") for event in events(job, "alert"))
    assert "task/moved" not in pq.read_table(job.dir.probes)["probe"].to_pylist()
    assert (job.dir.model / "adapter_model.safetensors").exists()


def test_a_group_is_one_probe_by_task(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Asked("+" * 9, "+" * 9), Asked("-" * 9, "+" * 9)
    stand_in(monkeypatch, {"both": lambda model: {"one": first(model), "two": second(model)}})
    part = trained(home, "run", "both")[1].choices[-1]
    assert (part.n, part.lost) == (18, 9)
    assert [(each.category, each.lost) for each in part.categories] == [("one", 0), ("two", 9)]


def test_a_run_of_all_weights_asks_the_base_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, {"facts": Asked("--", "++")})
    part = trained(home, "run", "facts", method="full")[1].choices[-1]
    assert (part.probe, part.lost) == ("task/facts", 2)


def test_the_scoring_tells_items_apart() -> None:
    samples = [item(0, [-1.0, -2.0], 0)]
    first, other = (harness.build_task_items("task/a", samples, config) for config in ({"x": 1}, {"x": 2}))
    assert first is not None
    assert other is not None
    assert first.identity != other.identity
    longer = [item(0, [-1.0, -2.0], 0) | {"arguments": [("a" * 9_000 + "The end?", " b")] * 2}]
    items = harness.build_task_items("task/a", longer)
    assert items is not None
    assert items.listing["text"][0].as_py().endswith("The end?")


@THERE
def test_the_harness_itself_is_asked_of_a_run(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(home.cache / "hf"))
    rows = [{"question": f"Number {i}?", "options": ["red", "green"], "right": i % 2} for i in range(6)]
    file = home.path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    (home.tasks / "capitals.yaml").write_text(CAPITALS.replace("FILE", str(file)))
    for name in ("one", "two"):
        part = trained(home, name, "capitals", probe_task_rows=5)[1]["choices"][-1]
        assert (part["probe"], part["n"]) == ("task/capitals", 5)
    kept = [pq.read_table(path)["probe"][0].as_py() for path in (home.cache / "base_probes").iterdir()]
    assert kept.count("task/capitals") == 1
