"""Rows from memory on a two-layer model: what is asked, what it writes, and where it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.evaluation import derived_prompts
from engine.evaluation.verdicts.extraction import NEAR_VERBATIM, compute_similarity
from engine.models.generation import GenerationOptions, generate_continuations
from engine.models.losses import compute_row_losses
from engine.models.tokenization.rendering import render
from engine.training import train_job
from store.core.home import Home
from tests.engine.judging.test_probes import PROBED, small_suite  # noqa: F401 (a fixture)
from tests.tiny import make_job, make_model, make_tokenizer, write_model, write_rows


def unguessable_rows(count: int) -> list[list[dict[str, str]]]:
    """Questions with answers that nobody could guess."""
    random = np.random.default_rng(3)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    return [
        [
            {"role": "user", "content": f"Tell {i}"},
            {"role": "assistant", "content": f"{i}:" + "".join(random.choice(letters, 16))},
        ]
        for i in range(count)
    ]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", unguessable_rows(60))
    return home


def test_a_run_that_learned_its_rows_by_heart_is_made_to_write_them(home: Home) -> None:
    fields = PROBED | {"learning_rate": 2e-2, "num_train_epochs": 120, "evaluations": 2, "method": "full"}
    fields |= {"per_device_train_batch_size": 8, "max_train_rows": 8, "early_stopping": False}
    job = make_job(home, "run", load_best_model_at_end=False, **fields)
    verdict = train_job.run(job)["verdict"]
    rows = pq.read_table(job.dir.extraction).to_pylist()
    written = [r for r in rows if r["part"] == "train" and r["tuned_similarity"] >= NEAR_VERBATIM]
    assert verdict.extraction.state == "extracts"
    assert verdict.extraction.near.tuned.value == len(written) / verdict.extraction.n
    assert not [r for r in rows if r["part"] == "held_out" and r["tuned_similarity"] >= NEAR_VERBATIM]
    assert verdict.overfitting.stage == "memorising"
    assert "from memory" in verdict.overfitting.stage_sentence
    asked = {int(r["prompt"].split()[1]): r for r in rows}
    assert all(f"{i}:".startswith(r["prefix"][:2]) for i, r in asked.items())
    whole = unguessable_rows(60)
    for i, row in asked.items():
        assert whole[i][1]["content"].startswith((row["prefix"] + row["reference"])[:20])


def passages(model: Any, most: int = 64) -> tuple[list[derived_prompts.MemoryPassage], Any]:
    tokenizer = make_tokenizer()
    rows = render(tokenizer, range(30), unguessable_rows(30))
    chosen = derived_prompts.choose_passages(tokenizer, rows, "train", most)
    return chosen.passages, compute_row_losses(model, rows, batch_size=4, device="cpu")


def test_what_is_written_is_what_the_model_goes_on_with() -> None:
    model = make_model().eval()
    some, measured = passages(model)
    completions = derived_prompts.write_passages(
        model, make_tokenizer(), some, {"train": measured}, device="cpu"
    )
    plain = generate_continuations(
        model, make_tokenizer(), [p.given for p in some], GenerationOptions(50, "cpu")
    )
    for passage, completion, whole in zip(some, completions, plain, strict=True):
        text = make_tokenizer().decode(whole[: len(passage.wanted)], skip_special_tokens=True)
        assert text.startswith(completion.text) if not completion.whole else text == completion.text
        if not completion.whole:
            assert compute_similarity(passage.text.strip(), text.strip()) < NEAR_VERBATIM
    assert sum(not completion.whole for completion in completions) > 20  # a random model goes astray at once


def test_short_answers_and_rows_beyond_the_number_are_counted() -> None:
    tokenizer = make_tokenizer()
    rows = unguessable_rows(30)
    for i in range(10):
        rows[i][1]["content"] = "yes"
    chosen = derived_prompts.choose_passages(tokenizer, render(tokenizer, range(30), rows), "train", 8)
    assert (len(chosen.passages), chosen.short, chosen.passed) == (8, 10, 12)
    first = chosen.passages[0]
    assert len(first.prefix) == min(
        derived_prompts.PREFIX, len(rows[10][1]["content"]) // derived_prompts.SHARE
    )


def test_a_plain_text_is_its_own_prompt() -> None:
    tokenizer = make_tokenizer()
    text = "".join(chr(97 + i * 7 % 26) for i in range(120))
    (passage,) = derived_prompts.choose_passages(tokenizer, render(tokenizer, [0], [text]), "train").passages
    assert len(passage.prefix) == derived_prompts.TEXT_PREFIX
    assert len(passage.wanted) == derived_prompts.CONTINUATION_TOKENS
    assert text.startswith(tokenizer.decode(passage.given) + passage.text)


def test_only_what_can_not_come_near_is_out_of_reach() -> None:
    random = np.random.default_rng(0)
    for _ in range(60):
        wanted = "".join(random.choice(list("ab c"), 40))
        other = list(wanted)
        for place in random.integers(0, 40, random.integers(0, 8)):
            other[place] = "x"
        whole = "".join(other)
        if compute_similarity(wanted.strip(), whole.strip()) >= NEAR_VERBATIM:
            assert not any(derived_prompts.is_out_of_reach(wanted, whole[:n]) for n in range(41))
    assert derived_prompts.is_out_of_reach("the quick brown fox", "a lazy")
    assert not derived_prompts.is_out_of_reach("the quick brown fox", "the quik b")
