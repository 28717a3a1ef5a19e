"""What is not made together is made all the same, or refused by name; and classifiers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config, GPT2LMHeadModel

from engine.serving.torch_backend import loading
from engine.serving.torch_backend.answering import load_answerer
from engine.serving.torch_backend.batched_forward import BatchedForward, PromptChunk
from engine.serving.torch_backend.linear_layers import NO_ADAPTER
from store.core.errors import ConfigError, ModelError
from store.core.job_folder import write_json
from store.serving.schemas import LabelSettings, ServedAdapter
from tests.engine.serving import served
from tests.engine.serving.served import client, spec_of
from tests.tiny import make_tokenizer, write_model

PROMPT = [40, 50, 60, 70, 41, 51]


def followed(forward: loading.Forward, adapter: int, tokens: int) -> list[int]:
    """What a forward goes on with, greedily, shown the prompt in two pieces."""
    forward.extend([PromptChunk(-1, adapter, PROMPT[:4])])
    made = [int(forward.extend([PromptChunk(-1, adapter, PROMPT[4:])])[0].argmax())]
    while len(made) < tokens:
        made.append(int(forward.step([-1], made[-1:])[0].argmax()))
    forward.release(-1)
    return made


def whole(model: Any, tokens: int) -> list[int]:
    """The same by the whole row at each step, without a cache."""
    made: list[int] = []
    with torch.inference_mode():
        for _ in range(tokens):
            made.append(int(model(input_ids=torch.tensor([PROMPT + made])).logits[0, -1].argmax()))
    return made


def test_another_architecture_answers_by_its_own_forward(tmp_path: Path) -> None:
    shape = {"vocab_size": 259, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.3, bos_token_id=1, eos_token_id=2))
    model.eval().save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    loaded = loading.load(spec_of(tmp_path, adapters=[]))
    assert "GPT2LMHeadModel" in loaded.unbatched_reason
    assert followed(loaded.forward, NO_ADAPTER, 12) == whole(model, 12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_fork_goes_on_as_the_row_that_it_was(tmp_path: Path, dtype: str) -> None:
    write_model(tmp_path / "base", initializer_range=0.3)
    forward = loading.load(spec_of(tmp_path, adapters=[], dtype=dtype)).forward
    assert isinstance(forward, BatchedForward)
    expected = followed(forward, NO_ADAPTER, 8)
    first = int(forward.extend([PromptChunk(1, NO_ADAPTER, PROMPT)])[0].argmax())
    forward.fork(1, 2)
    forward.extend([PromptChunk(3, NO_ADAPTER, PROMPT[:3])])
    forward.release(1)  # the last row takes its slot
    made = [first]
    while len(made) < 8:
        made.append(int(forward.step([2], made[-1:])[0].argmax()))
    assert made == expected
    assert int(forward.extend([PromptChunk(3, NO_ADAPTER, PROMPT[3:])])[0].argmax()) == first, (
        "a row in the middle of its prompt stays"
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_prompts_that_are_shown_together_get_the_scores_of_each_alone(tmp_path: Path, dtype: str) -> None:
    served.write_models(tmp_path)
    forward = loading.load(spec_of(tmp_path, dtype=dtype)).forward
    assert isinstance(forward, BatchedForward)
    rng = random.Random(0)
    prompts = [
        PromptChunk(key, adapter, [rng.randrange(40, 200) for _ in range(tokens)])
        for key, (adapter, tokens) in enumerate(
            [(NO_ADAPTER, 1), (0, 7), (1, 33), (NO_ADAPTER, 70), (0, 130), (1, 2)]
        )
    ]
    alone = []
    for prompt in prompts:
        first, last = ([prompt._replace(tokens=part)] for part in (prompt.tokens[:-1], prompt.tokens[-1:]))
        if first[0].tokens:
            forward.extend(first)
        alone.append(forward.extend(last)[0])
    stepped = forward.step(range(6), [50] * 6)
    for prompt in prompts:
        forward.release(prompt.key)
    started = [prompt._replace(tokens=prompt.tokens[:-1]) for prompt in prompts if len(prompt.tokens) > 1]
    forward.extend(started)
    together = forward.extend([prompt._replace(tokens=prompt.tokens[-1:]) for prompt in prompts])
    assert [torch.equal(own, other) for own, other in zip(alone, together, strict=True)] == [True] * 6
    assert torch.equal(forward.step(range(6), [50] * 6), stepped), "and so do the tokens after them"


@pytest.mark.parametrize(
    "config",
    [
        IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    ],
    ids=["IA3", "prefix"],
)
def test_one_adapter_of_another_kind_is_served_alone(tmp_path: Path, config: Any) -> None:
    write_model(tmp_path / "base", initializer_range=0.3)
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, 1, 0.5)
    model.eval().save_pretrained(str(tmp_path / "other"))
    spec = spec_of(tmp_path, adapters=[ServedAdapter(name="other", folder=str(tmp_path / "other"))], names=[])
    loaded = loading.load(spec)
    assert loaded.unbatched_reason
    assert followed(loaded.forward, 0, 8) == whole(model, 8)


@pytest.mark.parametrize("held", ["nf4", "int8"])
def test_quantised_bases_are_held_as_adapters_were_trained_on_them(
    tmp_path: Path, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.write_models(tmp_path)
    for name in served.ADAPTERS:
        write_json(tmp_path / name / "tunebench.json", {"held": held})
    loaded = loading.load(spec_of(tmp_path))
    assert bool(loaded.unbatched_reason) == (held == "int8"), (
        "8 bits are multiplied by their own layers alone"
    )
    made = [followed(loaded.forward, adapter, 8) for adapter in (NO_ADAPTER, 0, 1)]
    monkeypatch.setattr(loading, "recognise_model", lambda model, longest: "for a test")
    alone = loading.load(spec_of(tmp_path)).forward
    assert made == [followed(alone, adapter, 8) for adapter in (NO_ADAPTER, 0, 1)]
    write_json(tmp_path / "first" / "tunebench.json", {"held": ""})
    with pytest.raises(ModelError, match="held differently"):
        loading.load(spec_of(tmp_path))


def test_an_adapter_that_can_not_share_its_base_is_refused_by_name(tmp_path: Path) -> None:
    served.write_models(tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    get_peft_model(model, IA3Config(target_modules=["k_proj"], feedforward_modules=[])).save_pretrained(
        str(tmp_path / "other")
    )
    adapters = [ServedAdapter(name=name, folder=str(tmp_path / name)) for name in ("first", "other")]
    with pytest.raises(ModelError, match="other is IA3"):
        loading.load(spec_of(tmp_path, adapters=adapters))


def write_classifier(folder: Path) -> Any:
    """A whole classifier of three labels, as a run leaves it."""
    write_model(folder, initializer_range=0.3)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    torch.manual_seed(0)
    model.score.weight.data.normal_()
    model.config.pad_token_id = 2
    model.eval().save_pretrained(folder)
    write_json(folder / "tunebench.json", {"labels": ["ham", "news", "spam"], "held": ""})
    return model


def test_a_classifier_gives_labels_with_probabilities_and_abstains(tmp_path: Path) -> None:
    model = write_classifier(tmp_path / "base")
    spec = spec_of(tmp_path, adapters=[], labels=LabelSettings(temperature=2.0, threshold=0.999))
    answerer = load_answerer(spec)
    assert answerer.capabilities.kinds == ["labels"]
    body = {"model": "base", "messages": [{"role": "user", "content": "win a prize"}]}
    with served.server(answerer, spec["socket"]), client(spec["socket"]) as http:
        answer = http.post("/v1/chat/completions", json=body).json()
        drawn = http.post("/v1/chat/completions", json=body | {"temperature": 1})
    assert drawn.json()["error"]["code"] == "unsupported_parameter"
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([make_tokenizer()("win a prize").input_ids])).logits[0]
    expected = (logits / 2).softmax(-1).tolist()
    verdict = answer["classification"]
    assert [verdict["probabilities"][label] for label in ("ham", "news", "spam")] == pytest.approx(expected)
    assert verdict["confidence"] == pytest.approx(max(expected))
    assert verdict["abstained"] == (max(expected) < 0.999)
    assert (verdict["coverage"], verdict["requests"]) == (float(not verdict["abstained"]), 1)


def test_classifiers_share_no_base(tmp_path: Path) -> None:
    write_classifier(tmp_path / "base")
    adapters = [ServedAdapter(name=name, folder=str(tmp_path / "base")) for name in ("one", "two")]
    with pytest.raises(ConfigError, match="one, two"):
        load_answerer(spec_of(tmp_path, adapters=adapters))
