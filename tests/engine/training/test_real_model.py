"""The bundled model, from its GGUF file to a verdict: it converts, answers, and LoRA learns."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.models import bundled
from engine.models.bundled import count_parameters
from engine.models.generation import GenerationOptions, generate_answers
from engine.models.loading import load_tokenizer, resolve_model
from engine.models.tokenization.rendering import render_prompt
from engine.training import train_job
from store.core.errors import ModelError
from store.core.home import Home
from store.training.train_config import BUNDLED_MODEL
from tests.tiny import make_job, write_rows

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]  # minutes where the machine is busy

MODULES = (
    "os.path",
    "shutil",
    "math",
    "statistics",
    "itertools",
    "random",
    "re",
    "json",
    "pathlib",
    "datetime",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: Any) -> Home:
    try:
        bundled.find_gguf_file(BUNDLED_MODEL)
    except ModelError as error:
        pytest.skip(str(error))
    home = Home(tmp_path_factory.mktemp("real") / "home").create()
    write_rows(home, "rows", documented())
    job = make_job(home, "convert", model=BUNDLED_MODEL)
    job.config = {"model": BUNDLED_MODEL}
    job.dir.config.write_text(json.dumps(job.spec | {"kind": "convert"}))
    assert bundled.run(job).parameters == 134_515_008
    return home


def documented() -> list[list[dict[str, str]]]:
    """Names of functions and the first paragraphs of their documentation."""
    rows = {}
    for name in MODULES:
        module = importlib.import_module(name)
        members = [(name, module)] + [
            (f"{name}.{n}", c) for n, c in inspect.getmembers(module, inspect.isclass)
        ]
        for owner, holder in members:
            for attribute, value in inspect.getmembers(holder, callable):
                text = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
                if not attribute.startswith("_") and 20 < len(text) < 300:
                    rows.setdefault(text, f"What does {owner}.{attribute} do?")
    return [
        [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
        for text, question in sorted(rows.items())
    ]


def test_the_conversion_is_whole_and_leaves_nothing_aside(home: Home) -> None:
    folder = home.models / BUNDLED_MODEL
    assert [path.name for path in home.models.iterdir()] == [BUNDLED_MODEL]
    assert count_parameters(folder) == 134_515_008
    tokenizer = load_tokenizer(resolve_model(BUNDLED_MODEL, home))
    assert tokenizer.has_own_template
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    assert bundled.ensure_bundled_model(BUNDLED_MODEL, home) == folder


def test_lora_learns_on_few_rows(home: Home) -> None:
    job = make_job(
        home,
        "run",
        model=BUNDLED_MODEL,
        dtype="auto",
        max_train_rows=48,
        max_eval_rows=24,
        learning_rate=1e-3,
        num_train_epochs=1,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
        evaluations=1,
        probes=False,
        sample_prompts=2,
        max_new_tokens=16,
    )
    verdict = train_job.run(job)["verdict"]
    assert verdict.state == "learned"
    assert verdict.gain.low > 0.2
    predictions = pq.read_table(job.dir.predictions).to_pylist()
    assert all(row["base"] and row["tuned"] for row in predictions)
    config = json.loads((Path(job.dir.model) / "adapter_config.json").read_text())
    assert config["r"] == 16


def test_an_answer_in_bf16_is_the_same_whatever_stands_beside_it(home: Home) -> None:
    folder = resolve_model(BUNDLED_MODEL, home)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokenizer = load_tokenizer(folder)
    rows = documented()[:9]
    rendered = [text for row in rows if (prompt := render_prompt(tokenizer, row)) for text in prompt[:1]]

    def answers_by_text(texts: list[str]) -> dict[str, str]:
        completions = generate_answers(model, tokenizer, texts, GenerationOptions(10, "cpu", 4, steady=True))
        return dict(zip(texts, completions, strict=True))

    few, among, turned = (
        answers_by_text(rendered[:6]),
        answers_by_text(rendered),
        answers_by_text(rendered[5::-1]),
    )
    assert few == {text: among[text] for text in few} == turned
