"""The ask `rendering`: any row under any template, and the set in numbers that add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.training.preview import rendering_query
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError, NotFoundError
from store.core.home import Home
from store.core.job_folder import write_json
from store.core.training_schemas import MaskChecks, Rendering
from tests.tiny import conversations, worse_answers, write_model, write_rows


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    return home


def ask(home: Home, **fields: Any) -> Rendering:
    folder = home.asks / "one"
    folder.mkdir(exist_ok=True)
    body = {"fingerprint": "rows", "kind": "chat", "model": str(home.models / "tiny"), "row": 7} | fields
    order = {"job_id": "one", "kind": "rendering", "home": str(home.path), "device": "cpu", "config": body}
    write_json(folder / "config.json", order)
    return rendering_query.run(WorkerJob(folder))


def test_a_row_and_the_set(home: Home) -> None:
    answer = ask(home)
    row, whole = answer.row, answer.set
    assert row["row_id"] == 7
    assert "".join(token["text"] for token in row["tokens"]).count("<|im_start|>") == len(
        conversations(60)[7]
    )
    assert sum(token["trained"] for token in row["tokens"]) > 0
    assert (whole.counted, whole.of, whole.untrained) == (60, 60, {})
    assert sum(whole.lengths.counts) == 60
    assert answer.checks == MaskChecks(counted=60, unlocated=0, leaking=0, missed=0, unclosed=0)
    whole = ask(home, completion_only_loss=False).checks  # the line's end behind <|im_end|> is trained, too
    assert (whole.leaking, whole.unclosed) == (60, 0)


def test_another_template_gives_other_tokens(home: Home) -> None:
    text = "".join(token["text"] for token in ask(home, chat_template="headings").row["tokens"])
    assert "### Assistant:" in text
    assert "<|im_start|>" not in text
    wrong = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert ask(home, chat_template=wrong).checks.unclosed == 60


def test_what_max_length_cuts_is_counted(home: Home) -> None:
    whole, cut = ask(home).set, ask(home, max_length=24).set
    assert cut.max_length == 24
    assert cut.cut_rows > 0
    assert cut.lost_tokens > 0
    assert cut.shortened_answers <= cut.cut_rows
    assert whole.trained_tokens == cut.trained_tokens
    longest, more = cut.keeping_all
    assert (longest, whole.keeping_all) == (whole.longest, None)
    assert more > 0


@pytest.mark.parametrize("template", ["{% for", "{{ nothing() }}", "always the same"])
def test_a_template_that_does_not_work_is_refused(home: Home, template: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(home, chat_template=template)
    assert caught.value.field == "chat_template"


def test_a_row_that_is_not_there(home: Home) -> None:
    with pytest.raises(NotFoundError, match="has 60"):
        ask(home, row=60)


def test_of_a_pair_both_answers_are_shown(home: Home) -> None:
    rows = conversations(60)
    write_rows(home, "pairs", rows, rejected=worse_answers(rows))
    row = ask(home, fingerprint="pairs", kind="preference").row
    chosen, rejected = (
        "".join(token["text"] for token in part["tokens"] if token["trained"])
        for part in (row, row["rejected"])
    )
    assert chosen.startswith(rows[7][-1]["content"])
    assert rejected.startswith(worse_answers(rows)[7])
    assert row["rejected"]["row_id"] == 7
    assert "rejected" not in ask(home).row
