"""Texts that the base model itself writes: where their loss rises, the model has moved away from its base.

Over samples of the base, the mean of loss(tuned) − loss(base) is an estimate of KL(base‖tuned) without
bias, and no logits have to be kept. That holds for plain samples alone: temperature is 1, and neither top-k
nor top-p cuts anything, whatever the model's own generation config says. Each text begins with the first
tokens of a passage of the suite, which aren't trained, so that it is general text, of a chat model too.
Samples are made once for a base and kept in the home folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import GenerationConfig, StoppingCriteriaList

from engine.forward.generation import TokenCounter, head_given_whole_rows
from engine.probes.base_answers import base_key
from engine.probes.suite.suite_texts import Suite
from engine.rows.render import TokenRows
from engine.rows.tokens import read_rows, write_rows
from store.contract.home import Home

VERSION = 1  # of how samples are made: another number, another key
COUNT = 48
LENGTH = 48  # tokens that the model writes
START = 5  # tokens of a passage before them
AT_ONCE = 64  # samples; all of one length, so that there is no padding

OnToken = Callable[[int, int], None]


@dataclass(frozen=True)
class SamplePlan:
    """What is written: `count` texts of at most `length` tokens each, begun as passages of the suite are."""

    suite: Suite
    seed: int = 0
    count: int = COUNT
    length: int = LENGTH


def own_samples(
    home: Home,
    model: Any,
    tokenizer: Any,
    folder: Path,
    plan: SamplePlan,
    on_token: OnToken = lambda done, most: None,
) -> TokenRows:
    """Samples of the base model, from the cache where they were made before.

    model: the base, or one with its adapter switched off; folder: with the base's config and safetensors.
    `on_token(done, most)` may raise to stop, and then nothing is kept. What the model wrote is trained, its
    end of text too.
    """
    key = base_key(
        model, tokenizer, folder, VERSION, START, plan.suite.fingerprint, plan.seed, plan.count, plan.length
    )
    path = home.cache / "own_samples" / f"{key}.safetensors"
    rows = read_rows(path)
    if rows is None:
        rows = sample(model, tokenizer, plan, on_token)
        write_rows(path, rows)
    return rows


def sample(
    model: Any,
    tokenizer: Any,
    plan: SamplePlan,
    on_token: OnToken = lambda done, most: None,
) -> TokenRows:
    """New samples; model and torch's random generator are left as they came. Layers of an adapter that is
    switched on take part; tokens that it puts before each row don't."""
    starts = _starts(tokenizer, plan.suite, plan.count)
    return continued(model, tokenizer, starts, seed=plan.seed, length=plan.length, on_token=on_token)


def continued(
    model: Any,
    tokenizer: Any,
    starts: list[list[int]],
    *,
    seed: int,
    length: int,
    on_token: OnToken = lambda done, most: None,
) -> TokenRows:
    """Each start (token ids, padded on the left where it is shorter than others) as the model goes on from
    it; what it wrote is trained. Otherwise as `sample`."""
    model = model.get_base_model() if isinstance(model, PeftModel) else model
    ends = _ends(model, tokenizer)
    device = model.device
    counter = TokenCounter(on_token, length * -(-len(starts) // AT_ONCE))
    training = model.training
    model.eval()
    written: list[list[int]] = []
    try:
        with (
            torch.inference_mode(),
            head_given_whole_rows(model),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            _plain_generation(model, ends, tokenizer.pad_token_id, length),
        ):
            torch.manual_seed(seed)
            for first in range(0, len(starts), AT_ONCE):
                ids, mask = _padded(starts[first : first + AT_ONCE], device)
                out = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    stopping_criteria=StoppingCriteriaList([counter]),
                )
                written += out[:, ids.shape[1] :].tolist()
    finally:
        model.train(training)
    return _rows(starts, [_until_end(row, ends) for row in written])


def _padded(rows: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


@contextmanager
def _plain_generation(model: Any, ends: set[int], pad: int | None, length: int) -> Iterator[None]:
    """Inside, the model generates as its distribution says: its own config may cut or punish tokens."""
    before = model.generation_config
    plain = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=length, use_cache=True
    )
    plain.eos_token_id, plain.pad_token_id = sorted(ends), pad
    model.generation_config = plain
    try:
        yield
    finally:
        model.generation_config = before


def _starts(tokenizer: Any, suite: Suite, count: int) -> list[list[int]]:
    """The first tokens of passages, of all registers in turn, each as long as the others."""
    bos = tokenizer.bos_token_id
    ahead = [bos] if bos is not None and tokenizer("a").input_ids[:1] == [bos] else []
    texts = [passage.text[:200] for passage in suite.passages]
    beginnings = [ahead + ids[:START] for ids in tokenizer(texts, add_special_tokens=False).input_ids]
    order = np.random.default_rng(0).permutation(len(beginnings))
    return [beginnings[order[place % len(order)]] for place in range(count)]


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Tokens after which a text is over: those of the tokenizer and of the model."""
    named = model.generation_config.eos_token_id
    ending = {tokenizer.eos_token_id, *([named] if isinstance(named, int) else named or [])}
    return {token for token in ending if token is not None}


def _until_end(row: list[int], ends: set[int]) -> list[int]:
    """The row up to its first end, which the model wrote too; what follows is padding."""
    place = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
    return row[: place + 1]


def _rows(starts: list[list[int]], written: list[list[int]]) -> TokenRows:
    lengths = [len(start) + len(new) for start, new in zip(starts, written, strict=True)]
    pairs = list(zip(starts, written, strict=True))
    return TokenRows(
        np.arange(len(pairs)),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([np.array([*start, *new], np.int32) for start, new in pairs]),
        np.concatenate([np.repeat([False, True], [len(start), len(new)]) for start, new in pairs]),
        np.zeros(len(pairs), np.uint8),
    )
