"""Multiple choice scored by log-probability: as plain transformers say, with examples, in an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.data.split import dataset_split
from engine.evaluation import evaluate_job, row_selection
from engine.evaluation.comparison import row_scores
from store.core.errors import ConfigError
from store.core.home import Home
from store.data import dataset_files
from store.data.formats import append_choices
from store.evaluation.config import EvaluateConfig
from store.training.split import Split
from tests.engine.evaluating import evaluation, figure, home_with_rows, measured, trained
from tests.tiny import write_rows

ANIMALS = ("a cat", "the dog that barks", "an owl", "bees, all of them")
CHOICES = ["choice_accuracy", "choice_accuracy_per_byte"]
EXACT = {"dtype": "float32"}  # where a machine is fast in bf16, that is what is chosen


def options(row: int) -> list[str]:
    """Two to four choices of different lengths."""
    return [ANIMALS[(row + i) % 4] for i in range(2 + row % 3)]


def question(row: int) -> str:
    return f"Who is number {row}?"


def conversations(count: int) -> list[list[dict[str, str]]]:
    return [
        [
            {"role": "user", "content": append_choices(question(row), options(row))},
            {"role": "assistant", "content": options(row)[row % len(options(row))]},
        ]
        for row in range(count)
    ]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home, count = home_with_rows(tmp_path), 120
    write_rows(home, "rows", conversations(count))
    path = home.rows("rows")
    table = pq.read_table(path).to_pylist()
    for row in table:
        row["choices"] = options(row["row_id"])
        row["answer_index"] = row["row_id"] % len(row["choices"])
    table[7]["choices"] = table[7]["answer_index"] = None
    pq.write_table(pa.Table.from_pylist(table, dataset_files.SCHEMA), path)
    return home


def by_hand(home: Home, row: int, before: Sequence[int] = (), *, listed: bool = True) -> list[float]:
    """Of each choice the log-probability after the row's prompt, by transformers alone."""
    folder = home.models / "tiny"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def asked(number: int) -> dict[str, str]:
        text = append_choices(question(number), options(number)) if listed else question(number)
        return {"role": "user", "content": text}

    turns: list[dict[str, str]] = []
    for number in before:
        right = options(number)[number % len(options(number))]
        turns += [asked(number), {"role": "assistant", "content": right}]
    prompt = tokenizer.apply_chat_template([*turns, asked(row)], tokenize=False, add_generation_prompt=True)
    count, scores = len(tokenizer(prompt, add_special_tokens=False).input_ids), []
    for option in options(row):
        ids = torch.tensor([tokenizer(prompt + option, add_special_tokens=False).input_ids])
        with torch.no_grad():
            logs = model(input_ids=ids).logits[0].log_softmax(-1)
        scores.append(sum(logs[i - 1, ids[0, i]].item() for i in range(count, ids.shape[1])))
    return scores


@pytest.mark.parametrize("listed", [True, False])
def test_forty_items_are_scored_as_by_plain_transformers(home: Home, listed: bool) -> None:
    _, result, rows = measured(
        home, "e", model="tiny", part="all", max_rows=40, metrics=CHOICES, list_choices=listed, **EXACT
    )
    rows = [row for row in rows if row["row_id"] != 7]
    right = {"choice_accuracy": 0, "choice_accuracy_per_byte": 0}
    for row in rows:
        expected = by_hand(home, row["row_id"], listed=listed)
        assert row["choice_scores"] == pytest.approx(expected, abs=1e-3)
        assert row["prediction"] == options(row["row_id"])[int(np.argmax(expected))]
        sizes = [len(option.encode()) for option in options(row["row_id"])]
        right["choice_accuracy"] += int(np.argmax(expected)) == row["answer_index"]
        per_byte = [each / size for each, size in zip(expected, sizes, strict=True)]
        right["choice_accuracy_per_byte"] += int(np.argmax(per_byte)) == row["answer_index"]
    for name, count in right.items():
        metric_figure = figure(result, name)
        assert metric_figure.value == pytest.approx(count / len(rows))
        assert metric_figure.low < metric_figure.value < metric_figure.high
        assert metric_figure.n == len(rows)
        assert 0.25 < metric_figure.details["guessing"] < 0.5
    assert "answers" not in result.seconds  # nothing was generated


def test_a_row_that_is_no_multiple_choice_is_counted(home: Home) -> None:
    _, result, rows = measured(home, "e", model="tiny", part="all", max_rows=None, metrics=CHOICES)
    assert rows[7]["choice_scores"] is None
    assert figure(result, "choice_accuracy").n == 119
    assert result.reasons["the row is not multiple choice"] == 1


def test_examples_are_answered_training_rows_and_never_the_asked_one(home: Home) -> None:
    trained(home, max_train_rows=30)
    fields: dict[str, Any] = {"metrics": CHOICES, "choice_examples": 2, "list_choices": False, **EXACT}
    job, _, rows = measured(home, "e", model="tiny", part="test", **fields)
    config = EvaluateConfig.parse(job.config)
    every = row_selection.draw_choice_examples(job, config, np.arange(120))
    dealt = dataset_split.assign_rows_unchecked(home, "rows", Split.parse(job.spec["split"])).ids()
    used = {example.row_id for some in every.values() for example in some}
    assert used <= set(dealt["train"].tolist())
    assert len(used) == 3  # the third stands in for one of the two where that is asked itself
    for row_id, some in every.items():
        assert len({example.row_id for example in some} - {row_id}) == 2
    for row in rows[:5]:
        before = [example.row_id for example in every[row["row_id"]]]
        assert row["choice_scores"] == pytest.approx(
            by_hand(home, row["row_id"], before, listed=False), abs=1e-3
        )
    _, _, same = measured(home, "r", run="run", checkpoint="base", part="test", **fields)
    assert [row["choice_scores"] for row in same] == [row["choice_scores"] for row in rows]


def test_a_row_that_is_too_long_with_its_examples_is_counted(home: Home) -> None:
    _, result, _ = measured(home, "e", model="tiny", part="test", metrics=CHOICES, choice_examples=4)
    assert figure(result, "choice_accuracy").unscored.count == result.n
    assert result.reasons == {"prompt and choices exceed the context length of the model": result.n}


def test_too_few_examples_are_refused(home: Home) -> None:
    write_rows(home, "few", conversations(8))
    with pytest.raises(ConfigError) as caught:
        evaluate_job.run(
            evaluation(home, "e", rows="few", model="tiny", part="all", metrics=CHOICES, choice_examples=3)
        )
    assert caught.value.field == "choice_examples"


def test_base_and_run_are_compared_question_by_question(home: Home) -> None:
    trained(home)
    sides = []
    for checkpoint in ("tuned", "base"):
        job, result, _ = measured(home, checkpoint, run="run", checkpoint=checkpoint, metrics=CHOICES)
        sides.append((pq.read_table(job.dir.scores), result.figures))
    compared = row_scores.compute_score_differences(*sides)
    assert [difference.metric for difference in compared.metrics] == [f"eval/{name}" for name in CHOICES]
    assert all(difference.n == sides[0][1][0].n for difference in compared.metrics)


def test_choices_that_the_model_can_not_tell_apart_are_counted(home: Home) -> None:
    """A head of zeros gives every token the same score: choices of as many tokens tie, in fp32 too."""
    folder = home.models / "tiny"
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    model.save_pretrained(folder)
    table = pq.read_table(home.rows("rows")).to_pylist()
    table[3]["choices"], table[3]["answer_index"] = ["up", "no", "an owl"], 1
    pq.write_table(pa.Table.from_pylist(table, dataset_files.SCHEMA), home.rows("rows"))
    _, result, rows = measured(
        home, "e", model="tiny", part="all", max_rows=None, metrics=CHOICES, dtype="bfloat16"
    )
    assert rows[3]["prediction"] == "up"
    (notice,) = [text for text in result.notices if "highest score" in text]
    assert notice.startswith("1 row where several choices tie for the highest score, also in fp32")
