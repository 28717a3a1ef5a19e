"""How answers are generated: what costs memory and time, whatever they say."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from engine.evaluation.probes.base_samples import generate_sample_continuations
from engine.models import loading
from engine.models.generation import (
    GenerationOptions,
    _build_steady_batches,
    _compute_limits,
    _round_width,
    generate_answers,
    generate_continuations,
)
from engine.models.token_stream import SamplingOptions, stream_tokens
from engine.models.tuning_methods import make_trainable
from store.training.train_config import TrainConfig
from tests.tiny import make_tokenizer, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("generation") / "tiny")


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_the_head_is_never_given_rows_with_gaps(
    folder: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch would copy the head's weights for every row: gigabytes for a real vocabulary."""
    config = TrainConfig.parse({"dataset": "d", "model": str(folder), "method": method}).resolved(100)
    base = loading.load_model(config, config.model, "cpu", torch.float32)
    model = make_trainable(base, config, torch.float32)
    head: Any = model.get_output_embeddings()
    given: list[torch.Tensor] = []
    forward = head.forward
    monkeypatch.setattr(head, "forward", lambda x: (given.append(x), forward(x))[1])
    tokenizer = make_tokenizer()
    generate_answers(model, tokenizer, ["what is it", "who"], GenerationOptions(3, "cpu"))
    generate_answers(model, tokenizer, ["what is it"], GenerationOptions(3, "cpu"))
    list(islice(stream_tokens(model.eval(), [1, 2, 3], SamplingOptions(), "cpu"), 3))
    if method == "lora":
        generate_sample_continuations(model, tokenizer, [[1, 2, 3], [4, 5, 6]], seed=0, length=3)
    assert len(given) >= 9
    # is_contiguous() says yes to the gaps of a single row, and torch copies all the same
    assert all(x.stride() == torch.empty(x.shape).stride() for x in given)
    assert not head._forward_pre_hooks


def test_positions_of_a_model_that_also_reads_pictures_are_those_of_its_text_part() -> None:
    config = AutoConfig.for_model("gemma3", text_config={"max_position_embeddings": 256})
    model = SimpleNamespace(config=config, active_adapters=[])
    assert _compute_limits(model, 100) == (100, 156)
    assert _compute_limits(model, 400)[0] < 256


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(
        tmp_path_factory.mktemp("generation") / "wide", hidden_size=512, intermediate_size=1024
    )


PROMPTS = [f"prompt number {i} " + "and more of it " * (i % 5) for i in range(23)]


def ways(model: Any, **fields: Any) -> list[list[list[int]]]:
    """What the first nine prompts go on with: alone, among all others, and in another order."""
    tokenizer = make_tokenizer()
    encoded = tokenizer(PROMPTS, add_special_tokens=False).input_ids
    tokenizer.eos_token = "~"  # or a random model ends at once
    completions = []
    for order in (list(range(9)), list(range(23)), list(range(22, -1, -1))):
        made = generate_continuations(
            model,
            tokenizer,
            [encoded[i] for i in order],
            GenerationOptions(12, "cpu", 4, **fields),
        )
        ordered = [tokens for _, tokens in sorted(zip(order, made, strict=True))][:9]
        # shorter ones are padded
        completions.append([tokens[: tokens.index(2)] if 2 in tokens else tokens for tokens in ordered])
    return completions


def in_bf16(wide: Path, method: str) -> Any:
    config = TrainConfig.parse({"dataset": "d", "model": str(wide), "method": method}).resolved(100)
    base = loading.load_model(config, config.model, "cpu", torch.bfloat16)
    base.generation_config.eos_token_id = None
    torch.manual_seed(0)
    head = base.get_output_embeddings().weight
    base.get_output_embeddings().weight = torch.nn.Parameter(torch.randn_like(head))
    for weight in base.model.layers.parameters():  # so large that it doesn't repeat the last token for ever
        weight.data *= 3 if weight.ndim == 2 else 1
    return make_trainable(base, config, torch.bfloat16)


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_an_answer_in_bf16_is_the_same_whatever_stands_beside_it(wide: Path, method: str) -> None:
    model = in_bf16(wide, method)
    alone, among, turned = ways(model, steady=True)
    assert alone == among == turned
    assert any(len(set(tokens)) > 1 for tokens in alone)
    counted: list[tuple[int, int]] = []
    generate_answers(model, make_tokenizer(), PROMPTS, GenerationOptions(3, "cpu", 4, steady=True),
            on_token=lambda done, most: counted.append((done, most)))  # fmt: skip
    assert all(done <= most for done, most in counted)


def logits(model: Any, places: list[int], *, steady: bool) -> set[bytes]:
    """The logits of the first token that each of these prompts goes on with, to the bit."""
    first_logits: set[bytes] = set()

    def keep(_: Any, __: Any, out: torch.Tensor) -> None:
        first_logits.update(row.tobytes() for row in out[:, -1].float().numpy())

    encoded = make_tokenizer()([PROMPTS[i] for i in places], add_special_tokens=False).input_ids
    hook = model.get_output_embeddings().register_forward_hook(keep)
    generate_continuations(model, make_tokenizer(), encoded, GenerationOptions(1, "cpu", 4, steady=steady))
    hook.remove()
    return first_logits


def test_steady_shapes_make_the_very_logits_and_others_do_not(wide: Path) -> None:
    model = in_bf16(wide, "lora")
    few, every = list(range(9)), list(range(22, -1, -1))
    assert logits(model, few, steady=True) < logits(model, every, steady=True)
    assert not logits(model, few, steady=False) < logits(model, every, steady=False)


def test_steady_shapes_hang_on_the_length_of_a_prompt_alone() -> None:
    assert [_round_width(length) for length in (1, 32, 33, 48, 49, 65, 97, 129)] == [
        32,
        32,
        48,
        48,
        64,
        96,
        128,
        192,
    ]
    batches = _build_steady_batches([10, 40, 11, 200, 12], 2, 100)
    assert [(batch.places, batch.width) for batch in batches] == [
        ([0, 2], 32),
        ([4, 4], 32),
        ([1, 1], 48),
        ([3, 3], 100),
    ]
