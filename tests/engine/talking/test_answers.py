"""An answer that is read along is the answer that the engine gives elsewhere, and adapters never mix."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.evaluation import evaluated_model
from engine.models.generation import GenerationOptions, generate_continuations
from engine.models.tokenization.rendering import render_conversation
from engine.playground.answers import LocalAnswer, encode_prompt
from engine.playground.model_cache import ModelCache
from store.core.errors import ConfigError, ModelError, NotFoundError, StateError
from store.core.home import Home
from store.evaluation.config import EvaluateConfig
from tests.engine.evaluating import trained, trained_head
from tests.engine.talking.talkers import (
    ASKED,
    answered,
    choice,
    drawn,
    home_with_runs,
    logprobs_of,
    talk_job,
    text_of,
)
from tests.tiny import conversations, write_rows


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return home_with_runs(tmp_path_factory.mktemp("talkers"))


@pytest.fixture
def shelf(home: Home) -> Any:
    job = talk_job(home)
    yield ModelCache(job)
    shutil.rmtree(job.dir.path)


def alone(shelf: ModelCache, name: str, **fields: Any) -> tuple[Any, Any]:
    """The model as an evaluation loads it, by itself."""
    asked = {"run": name} if name != "tiny" else {"model": name, "dataset": "rows"}
    loaded = evaluated_model.load_model(shelf._job, EvaluateConfig.parse({**asked, **fields}))
    return loaded.model, loaded.tokenizer


def generated(model: Any, tokenizer: Any) -> str:
    prompt = tokenizer(
        render_conversation(tokenizer, ASKED, generation_prompt=True), add_special_tokens=False
    ).input_ids
    new = generate_continuations(model, tokenizer, [prompt], GenerationOptions(12, "cpu"))
    return str(tokenizer.decode(new[0], skip_special_tokens=True))


@pytest.mark.parametrize("name", ["tiny", "first", "second", "whole"])
def test_the_stream_is_what_the_engine_generates(shelf: ModelCache, name: str) -> None:
    events = answered(shelf, choice(name))
    assert text_of(events) == generated(*alone(shelf, name))
    assert events[0]["type"] == "begin"
    assert events[-1]["figures"]["tokens"] == 12
    chances = [event for event in events[1:-1] if event["top"]]
    assert len(chances) == 12  # and perhaps a character that never became whole
    for event in chances:
        best = event["top"][0]
        assert event["logprob"] == pytest.approx(best["logprob"])  # greedy
        assert len(event["top"]) == 5


def test_adapters_share_one_base_and_each_answers_as_if_it_were_alone(shelf: ModelCache) -> None:
    names = ["tiny", "first", "second", "first", "tiny", "second"]
    ready = {name: shelf.get(choice(name)) for name in names}
    assert len({id(each.weights) for each in ready.values()}) == 1
    expected = {name: text_of(answered(shelf, choice(name))) for name in ready}
    assert expected == {name: generated(*alone(shelf, name)) for name in ready}
    assert len(set(expected.values())) == 3
    together = [
        LocalAnswer(ready[name], ASKED, choice(name).sampling, "cpu").stream_events() for name in names
    ]
    rounds = list(itertools.zip_longest(*together))
    for place, name in enumerate(names):
        mine = [events[place] for events in rounds if events[place] is not None]
        assert text_of(mine) == expected[name]
        assert logprobs_of(mine) == logprobs_of(answered(shelf, choice(name)))


def test_a_share_of_the_way_lies_between_and_leaves_the_others_as_they_are(shelf: ModelCache) -> None:
    tuned = logprobs_of(answered(shelf, choice("first")))
    whole_way = logprobs_of(answered(shelf, choice("first", alpha=1.0)))
    none_of_it = logprobs_of(answered(shelf, choice("first", alpha=0.0)))
    half = logprobs_of(answered(shelf, choice("first", alpha=0.5)))
    assert whole_way == tuned
    assert none_of_it == logprobs_of(answered(shelf, choice("tiny")))
    assert half not in (tuned, none_of_it)
    assert logprobs_of(answered(shelf, choice("first"))) == tuned
    of_whole = {
        alpha: logprobs_of(answered(shelf, choice("whole", alpha=alpha))) for alpha in (0.0, 0.5, 1.0)
    }
    assert of_whole[0.0] == none_of_it
    assert of_whole[1.0] == logprobs_of(answered(shelf, choice("whole")))
    assert of_whole[0.5] not in (of_whole[0.0], of_whole[1.0])


def test_what_a_run_began_with_is_the_base(shelf: ModelCache) -> None:
    began = answered(shelf, choice("first", checkpoint="base"))
    assert logprobs_of(began) == logprobs_of(answered(shelf, choice("tiny")))


def test_a_seed_gives_the_same_answer_and_another_one_another(shelf: ModelCache) -> None:
    def with_seed(seed: int) -> str:
        return text_of(answered(shelf, choice("first", sampling=drawn(temperature=2, seed=seed))))

    assert with_seed(1) == with_seed(1)
    assert with_seed(1) != with_seed(2)


def test_drawing_from_one_token_is_greedy(shelf: ModelCache) -> None:
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}):
        events = answered(shelf, choice("first", sampling=drawn(temperature=3, **narrow)))
        chances = [event for event in events[1:-1] if event["top"]]
        assert len(chances) == 12
        assert all(event["logprob"] == event["top"][0]["logprob"] for event in chances)  # in bf16 two may tie


def test_repetition_costs_what_transformers_says(shelf: ModelCache) -> None:
    sampling = drawn(repetition_penalty=1.8)
    model, tokenizer = alone(shelf, "first")
    prompt = tokenizer(
        render_conversation(tokenizer, ASKED, generation_prompt=True), add_special_tokens=False
    )
    ids = torch.tensor([prompt.input_ids])
    options = {"max_new_tokens": 12, "do_sample": False, "repetition_penalty": 1.8, "pad_token_id": 2}
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **options)
    text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert text_of(answered(shelf, choice("first", sampling=sampling))) == text


def test_a_stop_string_ends_the_answer_before_it(shelf: ModelCache) -> None:
    whole = text_of(answered(shelf, choice("first")))
    stop = whole[4:6]
    events = answered(shelf, choice("first", sampling=drawn(stop=["not there", stop])))
    assert text_of(events) == whole[: whole.index(stop)]
    assert events[-1]["reason"] == "stop"


def test_prompt_methods_talk_too(shelf: ModelCache, home: Home) -> None:
    for method in ("prompt_tuning", "prefix_tuning"):
        name = method.replace("_", "-")
        trained(home, name, method=method)
        assert text_of(answered(shelf, choice(name))) == generated(*alone(shelf, name))


def test_a_conversation_that_does_not_fit_is_refused_before_the_model_is_run(shelf: ModelCache) -> None:
    ready = shelf.get(choice("tiny"))
    long: Any = [{"role": "user", "content": "x" * 300}]
    with pytest.raises(ConfigError, match=r"has 3\d\d tokens, and the model can see 256"):
        LocalAnswer(ready, long, choice("tiny").sampling, "cpu")
    full = replace(ready, positions=len(encode_prompt(ready, ASKED, choice("tiny").sampling)))
    with pytest.raises(ConfigError, match="the model can see") as full_refused:
        LocalAnswer(full, ASKED, choice("tiny").sampling, "cpu")
    assert full_refused.value.field == "messages"
    close: Any = [{"role": "user", "content": "x" * 200}]
    with pytest.raises(ConfigError, match="more than the 256") as refused:
        LocalAnswer(ready, close, choice("tiny", sampling=drawn(max_new_tokens=100)).sampling, "cpu")
    assert refused.value.field == "max_new_tokens"
    assert "Set max new tokens to" in refused.value.fix


def test_scores_that_are_no_numbers_are_said_to_be(shelf: ModelCache) -> None:
    ready = shelf.get(choice("whole"))
    weights = ready.weights.model.model.norm.weight
    before = weights.data.clone()
    weights.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        answered(shelf, choice("whole"))
    weights.data.copy_(before)


def test_a_classifier_and_a_run_that_is_gone_are_refused(shelf: ModelCache, home: Home) -> None:
    write_rows(home, "labelled", conversations(60), labels=["even", "odd"] * 30)
    trained_head(home, "head")
    with pytest.raises(ConfigError, match="classifier"):
        shelf.get(choice("head"))
    with pytest.raises(NotFoundError, match="folder of the run"):
        shelf.get(choice("gone"))
    trained(home, "deleted")
    shelf.get(choice("deleted"))
    shutil.rmtree(home.jobs / "deleted")
    with pytest.raises(NotFoundError, match="deleted"):
        shelf.get(choice("deleted"))


def test_what_is_not_used_makes_room(shelf: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    first, whole = shelf.get(choice("tiny")), shelf.get(choice("whole"))
    first.activate(), whole.activate()
    monkeypatch.setattr("engine.playground.model_cache.MAX_HELD", 2)
    third = shelf.get(choice("whole", alpha=0.5), in_use=[whole.weights])
    assert first.weights.model is None
    assert not shelf.contains(choice("tiny"))
    assert shelf.contains(choice("whole"))
    monkeypatch.setattr("engine.playground.model_cache._count_free_bytes", lambda device: 1)
    with pytest.raises(StateError, match="GiB"):
        shelf.get(choice("tiny"), in_use=[whole.weights, third.weights])
