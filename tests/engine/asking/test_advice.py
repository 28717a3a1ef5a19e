"""The advice ask: every method with its costs or the reason against it, for each task; what runs measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.data import canaries
from engine.evaluation import derived_prompts
from engine.training.costs.estimate import RunWork
from engine.training.costs.run_costs import EXTRACTION_TOKENS, GENERATION_BATCH, compute_work
from engine.training.preview import advice_query, preview_query
from engine.training.preview.planned_run import PlannedRun
from engine.worker.job import WorkerJob
from store.core.figure_schemas import UnitEstimate
from store.core.home import Home
from store.core.job_folder import write_json
from store.core.training_schemas import Advice, MeasuredRun
from store.training.methods import METHODS
from tests.shapes import held_to
from tests.tiny import conversations, worse_answers, write_model, write_rows
from tests.unit.store_samples import row_of


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    rows = conversations(200)
    write_rows(home, "rows", rows, labels=["odd" if i % 2 else "even" for i in range(200)])
    write_rows(home, "pairs", rows, rejected=worse_answers(rows))
    return home


def ask(
    home: Home,
    kind: Any = advice_query,
    rows: str = "rows",
    past: tuple[MeasuredRun, ...] = (),
    **fields: Any,
) -> Any:
    answer = kind.run(asked(home, kind, rows, past, **fields))
    return held_to(Advice, answer) if kind is advice_query else answer


def asked(home: Home, kind: Any, rows: str, past: tuple[MeasuredRun, ...] = (), **fields: Any) -> WorkerJob:
    folder = home.asks / "one"
    folder.mkdir(exist_ok=True)
    config = {"model": str(home.models / "tiny"), "dataset": rows} | fields
    body = {"config": config, "fingerprint": rows, "split": {"split_seed": 0}, "past": past}
    order = {"job_id": "one", "kind": kind.__name__.rpartition(".")[2], "home": str(home.path)}
    write_json(folder / "config.json", {**order, "device": "cpu", "config": body})
    return WorkerJob(folder)


@pytest.mark.parametrize(("task", "rows"), [("sft", "rows"), ("classification", "rows"), ("dpo", "pairs")])
def test_every_method_has_its_costs_or_a_reason(home: Home, task: str, rows: str) -> None:
    answer = ask(home, rows=rows, task=task)
    assert [option["method"] for option in answer["options"]] == list(METHODS)
    for option in answer["options"]:
        if not option["problem"]:
            assert 0 < option["low_gib"] < option["peak_gib"] < option["high_gib"], option
            assert 0 < option["low_seconds"] < option["seconds"], option
            assert 0 < option["trainable_parameters"] <= option["total_parameters"], option
            assert option["disk_bytes"] > 0, option
    usable = {option["method"] for option in answer["options"] if not option["problem"]}
    assert usable >= {"lora", "qlora", "full", "ia3", "prompt_tuning"}
    assert answer["recommendation"]["method"] == "lora"


def test_what_a_method_says_is_what_its_preview_says(home: Home) -> None:
    options = {option["method"]: option for option in ask(home)["options"]}
    for method in ("lora", "vera", "full"):
        answer = ask(home, preview_query, method=method)
        assert answer.trainable_parameters == options[method]["trainable_parameters"]
        assert answer.memory.peak_gib == pytest.approx(options[method]["peak_gib"], rel=0.2)
        assert answer.config["learning_rate"] == options[method]["learning_rate"]


def test_settings_of_one_method_are_not_laid_on_another(home: Home) -> None:
    plain, asked = (
        {option["method"]: option for option in ask(home, **fields)["options"]}
        for fields in ({}, {"method": "lora", "r": 64, "learning_rate": 1e-3, "gradient_checkpointing": True})
    )
    assert asked["lora"]["trainable_parameters"] > plain["lora"]["trainable_parameters"]
    assert asked["vera"]["trainable_parameters"] == plain["vera"]["trainable_parameters"]
    assert asked["full"]["learning_rate"] == plain["full"]["learning_rate"]
    assert "checkpointing" in asked["prefix_tuning"]["problem"]


def test_runs_of_the_past_are_shown_and_correct_their_own_kind_most(home: Home) -> None:
    first = ask(home)
    run = row_of(
        MeasuredRun,
        **{"run_id": "r1", "name": "a", "number": 1, "method": "lora", "task": "sft"},
        **{"model": str(home.models / "tiny"), "data_fingerprint": "rows", "stopped": "finished"},
        train_rows=first["rows"]["train"],
        gain=UnitEstimate(value=0.5, low=0.4, high=0.6, n=50, unit="nats a token"),
        **{"device_name": first["device"], "counted_memory_gib": 1.5, "process_memory_gib": 0.5},
        **{"peak_memory_gib": 2.0, "estimated_memory_gib": 1.5, "counted_seconds": 100.0},
        **{"run_seconds": 150.0, "estimated_seconds": 100.0, "settings": "", "steps_timed": False},
    )
    answer = ask(home, past=(run,))
    before, after = ({o["method"]: o for o in result["options"]} for result in (first, answer))
    ratios = {name: after[name]["seconds"] / before[name]["seconds"] for name in ("lora", "full")}
    assert ratios["lora"] > ratios["full"] > 1
    assert after["lora"]["past"].gain == 0.5
    assert after["full"]["past"] is None
    assert answer["past_runs"] == 1
    other = ask(home, past=(replace(run, task="classification"),))
    assert other["past_runs"] == 0


def test_labels_that_models_are_asked_for_take_time_and_memory(home: Home) -> None:
    rows = conversations(200)
    for i, row in enumerate(rows):
        row[-1]["content"] = "odd" if i % 2 else "even"
    write_rows(home, "answers", rows, labels=["odd" if i % 2 else "even" for i in range(200)])
    write_rows(home, "others", rows, labels=["one" if i % 2 else "two" for i in range(200)])
    questions = [PlannedRun(asked(home, preview_query, name)) for name in ("answers", "others")]
    work = [compute_work(question.cost(question.config)) for question in questions]
    assert questions[0].costs.labels is not None
    assert work[0].eval_tokens > work[1].eval_tokens
    assert work[0].train_tokens == work[1].train_tokens
    asking = [question.cost(question.config)._labels_bytes() for question in questions]
    assert asking[0] > asking[1] == 0
    estimates = [question.cost(question.config).memory() for question in questions]
    need = [memory.counted_gib - memory.process_gib for memory in estimates]
    assert need[0] > need[1]


def test_padding_takes_time_where_rows_have_some(home: Home) -> None:
    rows = conversations(200)
    for i, row in enumerate(rows):
        row[0]["content"] *= 1 + i % 4
    write_rows(home, "ragged", rows, labels=["odd" if i % 2 else "even" for i in range(200)])
    for task, padded in (("sft", False), ("classification", True)):
        question = PlannedRun(asked(home, preview_query, "ragged", task=task))
        cost = question.cost(question.config)
        tokens = question.costs.epoch("train")[0] * cost.steps / cost.per_epoch
        passed = compute_work(cost).train_tokens
        assert passed > 1.2 * tokens if padded else passed == pytest.approx(tokens)


def test_what_a_run_is_asked_of_forgetting_takes_time(home: Home) -> None:
    with_probes, without, head = (
        PlannedRun(asked(home, preview_query, "rows", **fields))
        for fields in ({}, {"probes": False}, {"task": "classification"})
    )
    costs = [question.cost(question.config) for question in (with_probes, without, head)]
    work = [compute_work(cost) for cost in costs]
    asked_more = work[0].eval_tokens - work[1].eval_tokens
    assert 2 * 32_000 < asked_more - 2 * costs[0].costs.epoch("validation")[0] < 2 * 35_000
    assert [w.beside > 0 for w in work] == [True, False, False]
    assert costs[0].time().counted_seconds > costs[1].time().counted_seconds + work[0].beside


def test_answers_to_few_prompts_are_few(home: Home) -> None:
    rows = conversations(200)
    for row in rows:
        row[0]["content"] *= 8
    write_rows(home, "asked", rows)
    write_rows(home, "chosen", rows, rejected=worse_answers(rows))

    def samples_take(kept: int, rows: str, **fields: Any) -> tuple[float, float]:
        question = PlannedRun(asked(home, preview_query, rows, max_eval_rows=kept, **fields))
        off = PlannedRun(asked(home, preview_query, rows, max_eval_rows=kept, probes=False, **fields))
        with_probes, without = (compute_work(each.cost(each.config)).eval_tokens for each in (question, off))
        tokens, trained = question.costs.epoch("test")
        prompt = (tokens - trained) / question.costs.rows["test"]
        return with_probes - without - 2 * (32_000 + question.costs.epoch("validation")[0]), prompt

    for kept in (4, 8):
        taken, prompt = samples_take(kept, "asked")
        assert prompt > 32
        assert taken == pytest.approx(2 * kept * (prompt + 32))
    taken, twice = samples_take(8, "chosen", task="dpo")  # a pair has its prompt before both answers
    assert twice > 64
    assert taken == pytest.approx(2 * 8 * (twice / 2 + 32))
    taken, short = samples_take(8, "rows")  # that of a text is its beginning
    assert short < 32
    assert taken == pytest.approx(2 * 8 * (32 + 32))


def test_what_is_replayed_takes_time(home: Home) -> None:
    plain, own, held = (
        compute_work(question.cost(question.config))
        for question in (
            PlannedRun(asked(home, preview_query, "rows", **fields))
            for fields in ({}, {"replay_share": 0.2}, {"replay_share": 0.2, "kl_beta": 1.0})
        )
    )
    assert plain.train_tokens < own.train_tokens == held.train_tokens
    assert plain.generated_steps < own.generated_steps  # of the base model's own texts
    assert plain.eval_tokens == own.eval_tokens < held.eval_tokens  # passes through the base, too


def test_answers_after_other_prompts_take_time_with_probes_off(home: Home) -> None:
    answers, whole = (
        PlannedRun(asked(home, preview_query, "rows", probes=False, completion_only_loss=only))
        for only in (True, False)
    )
    tokens = [compute_work(question.cost(question.config)).eval_tokens for question in (answers, whole)]
    assert tokens[0] > 1.3 * tokens[1]


def test_rows_from_memory_and_canaries_take_time(home: Home) -> None:
    rows = conversations(200)
    for row in rows[:100]:
        row[-1]["content"] *= 3
    write_rows(home, "long", rows)

    def work(name: str, **fields: Any) -> tuple[PlannedRun, RunWork]:
        question = PlannedRun(asked(home, preview_query, name, **fields))
        return question, compute_work(question.cost(question.config))

    (_, short), (question, long), (_, two), (planted, four) = (
        work("rows"), work("long"), work("rows", canaries=2), work("rows", canaries=4)
    )  # fmt: skip
    chosen = {
        part: derived_prompts.choose_passages(question.tokenizer, question.parts[part].rows, part, 1_000)
        for part in ("train", "test")
    }
    assert len(chosen["train"].passages) == 50  # of 100, of which 50 are measured
    count = 25 + len(chosen["test"].passages)
    assert long.generated_steps - short.generated_steps == 2 * EXTRACTION_TOKENS * -(
        -count // GENERATION_BATCH
    )
    # planted ones are not asked for, but every canary, of which two more make eight, passes once
    assert short.generated_steps == two.generated_steps == four.generated_steps
    drawn = canaries.tokenise_canaries(planted.tokenizer, planted.config, planted.kind)
    each = len(drawn.ids) / len(drawn)
    assert four.eval_tokens - two.eval_tokens > 0.9 * 8 * each
    assert two.eval_tokens - short.eval_tokens > 0.9 * (len(drawn) - 8) * each
