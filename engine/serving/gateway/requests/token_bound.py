"""The most tokens that a request can take, as it is known before it goes out.

No tokenizer runs in the gateway: a prompt counts a token for each byte of its JSON, which hardly any text
exceeds, and some for the template. What a request did take is charged when that is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.serving.gateway.requests.bodies import TOKENS
from store.documents.serving.request_line import RequestKind

TEMPLATE_TOKENS = 32  # that a chat template adds, beyond the JSON around each message: its own system message
TOOL_TOKENS = 512  # that it adds where there are tools: how to call them
QUESTION_TOKENS = 64  # that the prompt of a question of /v1/systemone has, beside its state and its options
BYTES_A_TOKEN = 4  # of usual text: for a prompt that nobody counted
NOT_SHOWN = {
    "model", "user", "metadata", "stream", "stream_options", "n", "best_of", "seed", "stop", "temperature",
    "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", *TOKENS,
}  # fmt: skip  # fields of which no model sees anything; of any other one it may


@dataclass(frozen=True)
class TokenBound:
    """prompt: tokens of all prompts. answers: how many are made. length: tokens of each, at most."""

    prompt: int
    answers: int
    length: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.prompt + self.answers * self.length

    def room(self, tokens: int) -> int:
        """How long each answer may become, so that all of it is no more than so many tokens."""
        return max(0, tokens - self.prompt) // self.answers if self.answers else 0

    def shortened(self, tokens: int) -> TokenBound:
        """With answers as long as there is room in so many tokens."""
        return replace(self, length=min(self.length, self.room(tokens)))


def bound_of(
    kind: RequestKind, body: Mapping[str, Any], length: int, context: int | None = None
) -> TokenBound:
    """Of one request. length: of each of its answers; context: the most tokens that a prompt can have."""
    if kind == "decision":
        return TokenBound(_decision_tokens(body, context), 0, 0)
    given = {"completion": "prompt", "embedding": "input"}.get(kind)
    prompts = _count_prompts(body.get(given)) if given else 1
    tokens = prompt_bytes(body) + TEMPLATE_TOKENS * prompts
    if context is not None:
        tokens = min(tokens, context * prompts)
    choices = max((_whole(body.get(name)) for name in ("n", "best_of")), default=1)
    writes = kind not in ("labels", "embedding")
    return TokenBound(tokens, prompts * choices, length) if writes else TokenBound(tokens, 0, 0)


def prompt_bytes(body: Mapping[str, Any]) -> int:
    """Of all that a model may be shown of a request, tools as templates write them."""
    return sum(_bytes(value) for name, value in body.items() if name not in NOT_SHOWN) + _tool_tokens(body)


def _tool_tokens(body: Mapping[str, Any]) -> int:
    """What a template adds to tools: how to call them, and line ends and blanks in their JSON."""
    if not isinstance(tools := body.get("tools"), list) or not tools:
        return 0
    return TOOL_TOKENS + len(json.dumps(tools, indent=4, ensure_ascii=False).encode("utf-8", "replace"))


def estimated_prompt(body: Mapping[str, Any]) -> int:
    """Tokens of a prompt that nobody counted, as its answer was cut or its server doesn't count."""
    return -(-prompt_bytes(body) // BYTES_A_TOKEN)


def _decision_tokens(body: Mapping[str, Any], context: int | None) -> int:
    """Each question is a prompt of its own, with the state in it."""
    questions = body.get("questions")
    count = len(questions) if isinstance(questions, dict) else 1
    each = _bytes(body.get("state")) + QUESTION_TOKENS + TEMPLATE_TOKENS
    tokens = count * each + _bytes(questions)
    return tokens if context is None else min(tokens, count * context)


def _count_prompts(prompt: object) -> int:
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        return len(prompt)
    return 1  # a text, or its tokens


def _whole(value: object) -> int:
    """A number of choices; what is none is refused by the backend."""
    return value if isinstance(value, int) and value > 1 else 1


def _bytes(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
