"""Generation of answers to held-out prompts, the same way for base and tuned model; greedy by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from peft import PeftModel, PeftType
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList, TopPLogitsWarper

# Models with trained prompts: number of tokens, and generation.
#
# peft's own `generate` for trained prompts is inconsistent with its training under the current transformers,
# so answers are generated here, token by token with a cache, from the same prompts as in training.

PickToken = Callable[[torch.Tensor], torch.Tensor]  # logits [rows, vocabulary] -> a token for each row


class PaddedPrompts(NamedTuple):
    """Left-padded prompts. ids, mask: int64 [rows, width]; mask is 0 at padding."""

    ids: torch.Tensor
    mask: torch.Tensor


class AnswerEnd(NamedTuple):
    """When an answer ends. ends: tokens that close it; pad: token that fills the rest."""

    max_new_tokens: int
    ends: set[int]
    pad: int


def pick_likeliest(logits: torch.Tensor) -> torch.Tensor:
    """Choose greedily."""
    return logits.argmax(-1)


def has_prompt_tokens(model: Any) -> bool:
    """Return whether the model prepends trained tokens to each row."""
    return isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning


def count_prompt_tokens(model: Any) -> int:
    """Return the number of tokens that the model prepends to each row, which use up positions."""
    return model.active_peft_config.num_virtual_tokens if has_prompt_tokens(model) else 0


def forward_prompted(model: Any, ids: torch.Tensor) -> Any:
    """Return the model's output for right-padded rows.

    With prefix tuning, a classifier's base model is called directly, as peft passes the cache under another
    name than transformers expects.
    """
    if has_prompt_tokens(model) and model.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
        return model.get_base_model()(input_ids=ids, cache=model.get_prompt(batch_size=len(ids)))
    return model(input_ids=ids, use_cache=False)


def generate_prompted(
    model: PeftModel,
    prompts: PaddedPrompts,
    ending: AnswerEnd,
    *,
    on_token: Callable[[], None],
    pick: PickToken = pick_likeliest,
) -> torch.Tensor:
    """Return answers [rows, new tokens], padded after their end."""
    ids, mask = prompts
    base: Any = model.get_base_model()
    rows = len(ids)
    mask = torch.cat(
        [torch.ones(rows, count_prompt_tokens(model), dtype=mask.dtype, device=mask.device), mask], dim=1
    )
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    given, cache, seen = prepare_first_step(model, ids, positions)
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


def prepare_first_step(
    model: PeftModel, ids: torch.Tensor, positions: torch.Tensor
) -> tuple[dict[str, torch.Tensor], Any, torch.Tensor]:
    """Return the base model's arguments for the first token: input, cache, and the input's positions.

    A prefix is in the cache, other trained prompts precede the input. positions: of trained prompt and rows.
    """
    rows = len(ids)
    if model.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
        return (
            {"input_ids": ids},
            model.get_prompt(batch_size=rows),
            positions[:, count_prompt_tokens(model) :],
        )
    base: Any = model.get_base_model()
    cache = DynamicCache(config=base.config)
    embedded = base.get_input_embeddings()(ids)
    embeds = torch.cat([model.get_prompt(rows).to(embedded.dtype), embedded], dim=1)
    return {"inputs_embeds": embeds}, cache, positions


MIN_PROMPT = 8  # minimum number of prompt tokens that are kept
MIN_WIDTH = 32  # minimum padded width of steady batches
CHECK_EVERY = 4  # tokens between two calls of `enough`


@dataclass(frozen=True)
class Sampling:
    """Random sampling from the model's distribution, at this temperature and from the top_p nucleus."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    @property
    def options(self) -> dict[str, object]:
        """Arguments for `generate` of transformers, overriding the model's own defaults."""
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": 0}

    def pick(self, logits: torch.Tensor) -> torch.Tensor:
        """Sample one token for each row of logits."""
        scaled = logits.float() / self.temperature
        if self.top_p < 1:
            scaled = TopPLogitsWarper(self.top_p)(None, scaled)
        return torch.multinomial(scaled.softmax(-1), 1)[:, 0]


@dataclass(frozen=True)
class GenerationOptions:
    """Options of generation; greedy without `sampling`.

    `steady`: a batch's shape depends on each prompt's own length only (`_build_steady_batches`), so that a
    greedy continuation doesn't depend on the other prompts. Products of other shapes are rounded differently,
    and in bf16 answers would diverge.
    """

    max_new_tokens: int
    device: str | torch.device
    batch_size: int = 16
    sampling: Sampling | None = None
    steady: bool = False


class TokenCounter(StoppingCriteria):
    """Call `on_token(tokens done, tokens at most)` after each generation step; it may raise to stop.

    - done: steps of earlier batches
    - enough: called every few tokens with a row of the batch and its new tokens; returns whether it may end
    - width: number of tokens to which the prompts are padded
    """

    def __init__(
        self,
        on_token: Callable[[int, int], None],
        most: int,
        *,
        done: int = 0,
        enough: Callable[[int, list[int]], bool] | None = None,
        width: int = 0,
    ) -> None:
        self.on_token, self.done, self.most, self.enough, self.width = on_token, done, most, enough, width
        self.ended: set[int] = set()

    def count(self) -> None:
        """Count one more token of every prompt."""
        self.done += 1
        self.on_token(self.done, self.most)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.count()
        made = input_ids.shape[1] - self.width
        if self.enough is not None and made % CHECK_EVERY == 0:
            for row, tokens in enumerate(input_ids[:, self.width :].tolist()):
                if row not in self.ended and self.enough(row, tokens):
                    self.ended.add(row)
        ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        ended[sorted(self.ended)] = True
        return ended


def generate_answers(
    model: Any,
    tokenizer: Any,
    asked: Sequence[str],
    how: GenerationOptions,
    on_token: Callable[[int, int], None] = lambda done, most: None,
) -> list[str]:
    """Return one answer to each rendered prompt, without special tokens; as `generate_continuations`."""
    encoded = tokenizer(list(asked), add_special_tokens=False).input_ids if asked else []
    new_tokens = generate_continuations(model, tokenizer, encoded, how, on_token=on_token)
    return [text.strip() for text in tokenizer.batch_decode(new_tokens, skip_special_tokens=True)]


def generate_continuations(
    model: Any,
    tokenizer: Any,
    encoded: Sequence[list[int]],
    how: GenerationOptions,
    *,
    on_token: Callable[[int, int], None] = lambda done, most: None,
    enough: Callable[[int, list[int]], bool] | None = None,
) -> list[list[int]]:
    """Return the tokens that continue each prompt, padded after a closing token.

    `enough` is called with a prompt's index and its tokens so far, and returns whether it may end there
    (ignored by models with trained prompts).

    Prompts are padded on the left, with an explicit attention mask, as pad and eos may be the same token. A
    prompt that leaves no room for the answer is truncated at its start, and an answer that leaves no room for
    `MIN_PROMPT` tokens of the prompt is shortened.
    """
    if not encoded:
        return []
    max_new_tokens, limit = _compute_limits(model, how.max_new_tokens)
    batches = _build_batches(encoded, how, limit)
    new_tokens: list[list[int]] = [[] for _ in encoded]
    training = model.training
    model.eval()
    if how.sampling:
        torch.manual_seed(how.sampling.seed)
    try:
        most = max_new_tokens * len(batches)  # steps, each one token for every prompt of a batch
        for number, batch in enumerate(batches):
            kept = [encoded[i][-limit:] if limit else encoded[i] for i in batch.places]
            prompts = _pad_left(kept, batch.width, how.device)
            more = None if enough is None else partial(_has_enough, enough, batch.places)
            done = max_new_tokens * number
            counter = TokenCounter(on_token, most, done=done, enough=more, width=batch.width)
            with torch.inference_mode(), pass_whole_rows_to_head(model):
                new = _generate(model, tokenizer, prompts, max_new_tokens, counter, how.sampling)
            for i, tokens in zip(batch.places, new.tolist(), strict=True):
                new_tokens[i] = tokens
    finally:
        model.train(training)
    return new_tokens


@dataclass(frozen=True)
class _PromptBatch:
    """Prompts, by their indices `places`, that are generated together, padded to `width` tokens."""

    places: list[int]
    width: int


def _compute_limits(model: Any, most: int) -> tuple[int, int | None]:
    """Return the token limits of an answer (at most `most`) and of its prompt, by the model's positions.

    The prompt's limit is None if the model states no maximum.
    """
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if room:
        room -= count_prompt_tokens(model)
        most = min(most, room - MIN_PROMPT)
    return most, room - most if room else None


def _build_batches(
    encoded: Sequence[list[int]], how: GenerationOptions, limit: int | None
) -> list[_PromptBatch]:
    """Return the batches of prompts, each prompt cut to `limit` tokens."""
    lengths = [min(len(tokens), limit or len(tokens)) for tokens in encoded]
    size = how.batch_size
    if how.steady:
        return _build_steady_batches(lengths, size, limit)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)  # similar lengths together, shortest first
    chunks = [order[first : first + size] for first in range(0, len(order), size)]
    return [_PromptBatch(chunk, lengths[chunk[-1]]) for chunk in chunks]


def _round_width(length: int) -> int:
    """Round up to a power of two, or three quarters of one (32, 48, 64, 96, 128, etc.)."""
    whole = max(MIN_WIDTH, 1 << (length - 1).bit_length())
    return whole * 3 // 4 if length <= whole * 3 // 4 >= MIN_WIDTH else whole


def _build_steady_batches(lengths: Sequence[int], size: int, limit: int | None) -> list[_PromptBatch]:
    """Build batches of one size, filled up with copies of their first prompt.

    All prompts of a batch are padded to the width that `_round_width` gives for their lengths.
    """
    of_width: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        of_width.setdefault(
            _round_width(length) if limit is None else min(_round_width(length), limit), []
        ).append(place)
    return [
        _PromptBatch([*chunk, *[chunk[0]] * (size - len(chunk))], width)
        for width, places in sorted(of_width.items())
        for chunk in (places[first : first + size] for first in range(0, len(places), size))
    ]


@contextmanager
def pass_whole_rows_to_head(model: Any) -> Iterator[None]:
    """Make the input of the model's head contiguous within the context.

    The last position of each prompt is a strided slice, for which torch multiplies by one copy of the head's
    weights per row if these aren't trained: 3.6 GB and seconds for 64 rows of SmolLM2-135M, 50 ms before the
    first token of a single row.
    """

    def compact(head: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        # contiguous() doesn't copy a single row, whatever its strides
        return (given[0].clone(memory_format=torch.contiguous_format), *given[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(compact)
    try:
        yield
    finally:
        hook.remove()


def _has_enough(
    enough: Callable[[int, list[int]], bool], chosen: Sequence[int], row: int, tokens: list[int]
) -> bool:
    return enough(chosen[row], tokens)


def _generate(
    model: Any,
    tokenizer: Any,
    prompts: PaddedPrompts,
    most: int,
    counter: TokenCounter,
    sampling: Sampling | None,
) -> torch.Tensor:
    """Return the new tokens [rows, at most `most`] of each prompt."""
    ends = find_end_tokens(model, tokenizer)
    if has_prompt_tokens(model):
        return generate_prompted(
            model,
            prompts,
            AnswerEnd(most, ends, tokenizer.pad_token_id),
            on_token=counter.count,
            pick=sampling.pick if sampling else pick_likeliest,
        )
    out = model.generate(
        input_ids=prompts.ids,
        attention_mask=prompts.mask,
        max_new_tokens=most,
        use_cache=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=sorted(ends),
        stopping_criteria=StoppingCriteriaList([counter]),
        **(sampling.options if sampling else {"do_sample": False}),
    )
    answers: torch.Tensor = out[:, prompts.ids.shape[1] :]
    return answers


def _pad_left(rows: list[list[int]], width: int, device: str | torch.device) -> PaddedPrompts:
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[i, width - len(row) :] = 1
    return PaddedPrompts(ids.to(device), mask.to(device))


def find_end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer: chat models often name more than the tokenizer does."""
    named = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *([named] if isinstance(named, int) else named or [])}
