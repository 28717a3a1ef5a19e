"""The preview ask: counts that training then finds, one row token by token, and what is warned of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.evaluation.probes.base_samples import SAMPLE_TOKENS
from engine.models.tuning_methods import count_parameters, make_trainable
from engine.training.preview import preview_query
from engine.worker.job import WorkerJob
from store.core.errors import ModelError
from store.core.home import Home
from store.core.job_folder import write_json
from store.core.training_schemas import Preview
from store.training.methods import METHODS
from store.training.setting_conflicts import list_conflicts
from store.training.train_config import TrainConfig
from tests.shapes import held_to
from tests.tiny import conversations, make_model, write_model, write_rows
from tests.unit.data_job import import_file, write


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(400))
    return home


def ask(home: Home, row: int = 0, body: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    folder = home.asks / "one"
    folder.mkdir(exist_ok=True)
    asked = {
        "config": ask_config(home, **fields),
        "fingerprint": "rows",
        "split": {"split_seed": 0},
        "row": row,
    } | (body or {})
    write_json(
        folder / "config.json",
        {"job_id": "one", "kind": "preview", "home": str(home.path), "device": "cpu", "config": asked},
    )
    return held_to(Preview, preview_query.run(WorkerJob(folder)))


def fields_of(answer: dict[str, Any], level: str) -> set[str]:
    return {problem.field for problem in answer.problems if problem.level == level}


def test_counts_and_costs(home: Home) -> None:
    answer = ask(home, max_train_rows=200)
    assert answer.rows == {"train": 200, "validation": 50, "test": 50}
    assert answer.counted_rows == 200
    assert answer.steps_per_epoch == 13
    assert answer.steps == 39
    assert answer.config["learning_rate"] == 1e-4
    assert answer.untrained_rows == answer.truncated_rows == 0
    assert answer.memory.low_gib < answer.memory.peak_gib < answer.memory.high_gib
    assert answer.time.low_seconds < answer.time.seconds
    assert answer.problems == []


def test_one_row_token_by_token(home: Home) -> None:
    row = ask(home, row=2).row
    text = "".join(token["text"] for token in row["tokens"])
    assert text.startswith("<|im_start|>user\nNumber ")
    assert text.endswith("<|im_end|>\n")
    assert "".join(t["text"] for t in row["tokens"] if t["trained"]).endswith("<|im_end|>")
    assert (row["index"], row["of"]) == (2, 300)
    assert ask(home, row=10_000).row["index"] == 299


def test_a_character_of_several_tokens_is_shown_once(home: Home) -> None:
    rows = [
        [{"role": "user", "content": "ä"}, {"role": "assistant", "content": "日本 🎉"}] for _ in range(60)
    ]
    write_rows(home, "rows", rows)
    tokens = ask(home).row["tokens"]
    assert "".join(token["text"] for token in tokens) == (
        "<|im_start|>user\nä<|im_end|>\n<|im_start|>assistant\n日本 🎉<|im_end|>\n"
    )
    assert sum(token["text"] == "" for token in tokens) == 8  # 1 of ä, 2 each of 日 and 本, 3 of 🎉


def test_rows_without_a_trained_token_refuse_the_launch(home: Home) -> None:
    write_rows(home, "rows", [row[:1] for row in conversations(100)])
    answer = ask(home)
    assert fields_of(answer, "error") == {"dataset"}
    assert "no assistant turn" in answer.problems[0].message
    answer = ask(home, max_length=8)
    assert fields_of(answer, "error") == {"dataset"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"learning_rate": 0.5}, "learning_rate"),
        ({"per_device_train_batch_size": 1000}, "per_device_train_batch_size"),
        ({"method": "qlora"}, "method"),
        ({"optim": "paged_adamw_8bit"}, "optim"),
        ({"max_length": 36}, "max_length"),
        ({"max_steps": 3}, "num_train_epochs"),
        ({"max_eval_rows": 10}, "test_size"),
    ],
)
def test_what_an_expert_may_want_is_a_warning(home: Home, fields: dict[str, Any], field: str) -> None:
    answer = ask(home, **fields)
    assert field in fields_of(answer, "warning")
    assert not fields_of(answer, "error")
    assert all(problem.fix for problem in answer.problems)


def test_a_length_beyond_the_model_is_an_error(home: Home) -> None:
    answer = ask(home, max_length=4096)
    assert fields_of(answer, "error") == {"max_length"}
    assert answer.max_length == 256


def test_a_base_model_is_told_how_it_will_be_asked(home: Home) -> None:
    (home.models / "tiny" / "chat_template.jinja").unlink()
    answer = ask(home)
    assert fields_of(answer, "warning") == {"model"}
    assert "".join(t["text"] for t in answer.row["tokens"]).startswith("### User:")


def test_a_large_set_is_counted_on_a_sample(home: Home, monkeypatch: Any) -> None:
    whole = ask(home).tokens_per_epoch
    monkeypatch.setattr("engine.training.preview.planned_run.WHOLE", 100)
    monkeypatch.setattr("engine.models.tokenization.tokenized_rows.WHOLE", 100)
    answer = ask(home)
    assert answer.counted_rows == 100
    assert answer.rows["train"] == 300
    assert answer.tokens_per_epoch == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("config.json", r"has no config\.json"),
        ("model.safetensors", "has no safetensors weights"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_a_folder_that_is_not_a_model_says_what_it_lacks(home: Home, missing: str, says: str) -> None:
    (home.models / "tiny" / missing).unlink()
    with pytest.raises(ModelError, match=says) as caught:
        ask(home)
    assert caught.value.field == "model"
    assert caught.value.fix


def test_pickled_weights_are_refused(home: Home) -> None:
    (home.models / "tiny" / "model.safetensors").rename(home.models / "tiny" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pytorch_model\.bin"):
        ask(home)


def test_a_broken_config_is_a_model_error(home: Home) -> None:
    (home.models / "tiny" / "config.json").write_text('{"model_type": "never heard of"}')
    with pytest.raises(ModelError, match="can't be loaded"):
        ask(home)


def test_calls_of_functions_are_written_out_where_the_template_knows_none(home: Home) -> None:
    call = '{"tool_calls": [{"name": "f", "arguments": {}}]}'
    turns = [("tools", '[{"name": "f"}]'), ("user", "Go"), ("assistant", call)]
    rows = [[{"role": role, "content": text} for role, text in turns] for _ in range(200)]
    write_rows(home, "rows", rows)
    answer = ask(home)
    assert fields_of(answer, "error") == set()
    assert "model" in fields_of(answer, "warning")
    assert "".join(t["text"] for t in answer.row["tokens"] if t["trained"]) == call + "<|im_end|>"
    knowing = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{{ (m.tool_calls or '') }}"
        "{{ '<|im_end|>' }}{% endfor %}{{ tools and '' }}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    assert "model" not in fields_of(ask(home, chat_template=knowing), "warning")


@pytest.mark.parametrize("method", METHODS)
def test_what_is_trained_is_what_training_will_train(home: Home, method: str) -> None:
    answer = ask(home, method=method)
    chosen = TrainConfig.parse(answer.config)
    counted = count_parameters(make_trainable(make_model(), chosen, torch.float32))
    assert (answer.trainable_parameters, answer.total_parameters) == counted


def test_memory_that_is_short_is_warned_of_at_a_field_that_helps(home: Home, monkeypatch: Any) -> None:
    monkeypatch.setattr("engine.models.hardware.measure_available_gib", lambda device: (0.01, 64.0))
    assert "gradient_checkpointing" in fields_of(ask(home), "warning")  # rows are dealt by tokens
    assert "per_device_train_batch_size" in fields_of(ask(home, lora_dropout=0.1), "warning")


def test_what_is_replayed_counts_in_steps_and_memory(home: Home) -> None:
    plain = ask(home)
    own = ask(home, replay_share=0.2)
    held = ask(home, replay_share=0.2, kl_beta=1.0)
    rows = 0.25 * plain.rows["train"] * plain.config["num_train_epochs"]
    assert plain.replay is None
    assert own.replay["rows"] == rows
    assert own.replay["from"] == "the base model's own texts"
    assert own.replay["trained_tokens"] == SAMPLE_TOKENS * rows
    assert own.steps == plain.steps  # general rows come beside those of the data set
    need = [a.memory.counted_gib - a.memory.process_gib for a in (plain, own, held)]
    assert need[0] <= need[1] <= need[2]  # without the process, which grows from question to question


def test_no_more_rows_are_rehearsed_than_a_step_replays(home: Home) -> None:
    write_rows(home, "general", ["A long text of general kinds. " * 6] * 90)
    source = {"dataset_id": "g", "name": "General", "kind": "text", "fingerprint": "general"}
    fields = {"replay_dataset": "General", "body": {"replay": source}, "lora_dropout": 0.1}  # not packed
    asked = ask(home, lora_dropout=0.1), *(ask(home, replay_share=n, **fields) for n in (0.1, 0.4))
    asked = *asked, ask(home, replay_share=0.4, kl_beta=1.0, **fields)
    none, few, many, held = (a.memory.counted_gib - a.memory.process_gib for a in asked)
    # a step has a batch of its own short rows, and then one long text, or several of them
    assert none <= few
    assert many - none > 3 * (few - none)
    assert held - none > 1.1 * (many - none)  # with what the base makes of them


def test_a_data_set_that_is_replayed_is_counted_as_it_is_cut(home: Home) -> None:
    write_rows(home, "general", [f"Text number {i} of general kinds." for i in range(90)])
    source = {"dataset_id": "g", "name": "General", "kind": "text", "fingerprint": "general"}
    answer = ask(home, replay_share=0.1, replay_dataset="General", body={"replay": source})
    assert answer.replay["from"] == "General"
    assert answer.replay["tokens"] > answer.replay["trained_tokens"] > 20 * answer.replay["rows"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kl_beta": 0.1}, "kl_beta"),
        ({"replay_dataset": "General"}, "replay_dataset"),
        ({"replay_share": 0.1, "kl_beta": 0.1, "method": "full"}, "kl_beta"),
        ({"replay_share": 0.1, "task": "dpo"}, "replay_share"),
    ],
)
def test_replay_that_can_not_be_is_refused_at_its_field(fields: dict[str, Any], field: str) -> None:
    config = TrainConfig.parse({"dataset": "rows"} | fields)
    assert [name for name, _ in list_conflicts(config)] == [field]


def test_canaries_are_counted(home: Home) -> None:
    plain, planted = (ask(home, canaries=n) for n in (0, 2))
    assert planted.rows["train"] == plain.rows["train"] + 42
    assert planted.steps > plain.steps
    assert [p.field for p in planted.problems if "made-up secrets" in p.message] == ["canaries"]


def test_rows_whose_import_ignored_a_mark_are_no_launch_without_a_reason(home: Home, tmp_path: Path) -> None:
    rows = [{"messages": turns, "label": number % 2 == 0} for number, turns in enumerate(conversations(100))]
    file = write(tmp_path, "marked.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    result = import_file(home, file, ignore=["label"]).result
    asked = {"fingerprint": result["fingerprint"]}
    asked |= {"imported_as": {"format": "messages", "columns": result["columns"], "answers": None}}
    for reason, level in (("", "error"), ("The mark is of another question.", "warning")):
        answer = ask(home, body=asked | {"config": ask_config(home, gate_override=reason)})
        assert any("'label'" in each.message and each.level == level for each in answer.problems)
    asked["imported_as"] = None  # an import that asked
    assert not any("'label'" in each.message for each in ask(home, body=asked).problems)


def ask_config(home: Home, **fields: Any) -> dict[str, Any]:
    return {"model": str(home.models / "tiny"), "dataset": "rows"} | fields
