"""Models with trained prompts: how many tokens they take, and answers from them.

peft's own `generate` for prompts does not agree with its training under the present transformers, so answers
are made here, token by token with a cache, from the same prompts that training sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from peft import PeftModel, PeftType
from transformers import DynamicCache

Pick = Callable[[torch.Tensor], torch.Tensor]  # logits [rows, vocabulary] -> a token for each row


class PaddedPrompts(NamedTuple):
    """Prompts, padded on the left. ids, mask: int64 [rows, width]; mask is 0 at padding."""

    ids: torch.Tensor
    mask: torch.Tensor


class AnswerEnd(NamedTuple):
    """When an answer is over. ends: tokens that close it; pad: the token that fills what follows."""

    max_new_tokens: int
    ends: set[int]
    pad: int


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """The greedy choice."""
    return logits.argmax(-1)


def prompted(model: Any) -> bool:
    """Whether the model puts trained tokens before each row."""
    return isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning


def tokens(model: Any) -> int:
    """Tokens that the model puts before each row, which take room from its positions."""
    return model.active_peft_config.num_virtual_tokens if prompted(model) else 0


def forward(model: Any, ids: torch.Tensor) -> Any:
    """What the model says of right-padded rows. A classifier with trained prefixes is called past peft, which
    looks for another name of the cache than transformers has."""
    if prompted(model) and model.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
        return model.get_base_model()(input_ids=ids, cache=model.get_prompt(batch_size=len(ids)))
    return model(input_ids=ids, use_cache=False)


def generate(
    model: PeftModel,
    prompts: PaddedPrompts,
    ending: AnswerEnd,
    *,
    on_token: Callable[[], None],
    pick: Pick = likeliest,
) -> torch.Tensor:
    """Answers [rows, new tokens], filled with the ending's pad after their ends."""
    ids, mask = prompts
    base: Any = model.get_base_model()
    rows = len(ids)
    mask = torch.cat([torch.ones(rows, tokens(model), dtype=mask.dtype, device=mask.device), mask], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    given, cache, seen = first_step(model, ids, positions)
    made: list[torch.Tensor] = []
    done = torch.zeros(rows, dtype=torch.bool, device=ids.device)
    last = torch.tensor(sorted(ending.ends), device=ids.device)
    for _ in range(ending.max_new_tokens):
        out = base(
            **given,
            attention_mask=mask,
            position_ids=seen,
            cache=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        token = pick(out.logits[:, -1]).masked_fill(done, ending.pad)
        made.append(token)
        on_token()
        done |= torch.isin(token, last)
        if done.all():
            break
        given, cache = {"input_ids": token[:, None]}, out.cache
        mask = torch.cat([mask, mask.new_ones(rows, 1)], dim=1)
        seen = seen[:, -1:] + 1
    return torch.stack(made, dim=1)


def first_step(
    model: PeftModel, ids: torch.Tensor, positions: torch.Tensor
) -> tuple[dict[str, torch.Tensor], Any, torch.Tensor]:
    """What the base model is given for the first token: its input, its cache, and the positions of the input.
    A prefix lies in the cache, other trained prompts before the input. positions: of prompts and rows."""
    rows = len(ids)
    if model.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
        return {"input_ids": ids}, model.get_prompt(batch_size=rows), positions[:, tokens(model) :]
    base: Any = model.get_base_model()
    cache = DynamicCache(config=base.config)
    embedded = base.get_input_embeddings()(ids)
    embeds = torch.cat([model.get_prompt(rows).to(embedded.dtype), embedded], dim=1)
    return {"inputs_embeds": embeds}, cache, positions
