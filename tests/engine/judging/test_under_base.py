"""Perplexity of served answers under their base is the loss that an evaluation measures of the same text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.monitoring.base_model_losses import VersionBases
from engine.monitoring.measured_requests import measure_answers, read_evaluation_answers
from store.core.errors import ModelError
from store.core.monitoring_schemas import ServedBase
from store.core.row_schemas import Message
from tests.engine.evaluating import home_with_rows, measured, trained
from tests.tiny import conversations
from tests.unit.data_job import make_job


def test_it_is_the_loss_of_the_evaluation(tmp_path: Path) -> None:
    home = home_with_rows(tmp_path)
    _, _, rows = measured(home, "whole", model="tiny", part="all", metrics=["perplexity"])
    run = trained(home)
    wanted = {row["row_id"]: row["loss_sum"] / row["tokens"] for row in rows}
    models = VersionBases(make_job(home, "watch", {}))
    ofs: list[ServedBase] = [
        {"model": "tiny", "run": "", "why": ""}, {"model": "", "run": run.dir.path.name, "why": ""},
    ]  # fmt: skip
    texts: list[Any] = conversations(60)
    for base in ofs:  # of the run what it was trained on, not what it left
        scored = models.score(models.find(base), texts)
        assert scored.nats == pytest.approx([wanted[i] for i in range(60)], rel=1e-4)
        assert (scored.cut, set(scored.reasons)) == (0, {""})
    with pytest.raises(ModelError):
        models.find({"model": str(home.path / "gone"), "run": "", "why": ""})


def test_earlier_answers_are_asked_and_long_ones_cut(tmp_path: Path) -> None:
    home = home_with_rows(tmp_path)
    job, _, _ = measured(home, "drawn", model="tiny", part="test", metrics=["exact_match", "perplexity"])
    models = VersionBases(make_job(home, "watch", {}))
    key = models.find({"model": "tiny", "run": "", "why": ""})
    ask: Message = {"role": "user", "content": "A?"}
    short: Message = {"role": "assistant", "content": "B"}
    texts = [
        [ask, short], [ask, {**short, "content": "C" * 400}], [{**ask, "content": "D" * 400}, short],
        [ask, {**short, "content": "E" * 60}, ask, short],
    ]  # fmt: skip
    scored = models.score(key, texts)
    assert scored.nats[2] is None
    assert scored.reasons[2] == "the answer is beyond max_length"
    assert scored.cut == 1
    alone = models.score(key, [texts[0]])
    assert alone.nats[0] == pytest.approx(scored.nats[0], rel=1e-4)
    other = models.score(key, [[ask, {**short, "content": "F" * 60}, ask, short]]).nats[0]
    # another earlier answer changes what the last one follows, and is not measured itself
    assert other == pytest.approx(scored.nats[3], rel=0.2)
    answers = read_evaluation_answers(job, "drawn", 100, "tiny@live")
    assert all(answer.messages and answer.messages[-1]["role"] == "assistant" for answer in answers)
    bases: dict[str, ServedBase] = {"tiny@live": {"model": "tiny", "run": "", "why": ""}}
    assert measure_answers(answers, bases, models).look.measured == len(answers)
