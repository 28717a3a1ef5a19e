"""What an export answers, told by what it holds for likeliest after each token of the model's own answer.

Where that is the model's next token everywhere, the export answers the same, and nothing has to be generated:
most rows of most forms. Else its answer is the model's up to where they part, and is gone on with from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from engine.shipping.parity.asked import ParityQuestions


class BegunAnswer(NamedTuple):
    """The tokens that are sure; open: it goes on behind them."""

    tokens: list[int]
    open: bool


def begun(
    asked: ParityQuestions, row: int, favourites: list[int] | None, ends: Callable[[int], bool]
) -> BegunAnswer:
    """favourites: at the places of the model's answer to this prompt; None where nobody looked."""
    prompt, ids = asked["prompt_ids"][row], asked["answers"]["ids"][row]
    answer, most = ids[len(prompt) :], asked["max_new_tokens"]
    room = asked["positions"] is None or len(ids) + most <= asked["positions"]
    # a prompt that was cut is cut elsewhere once tokens are put behind it
    if favourites is None or ids[: len(prompt)] != prompt or len(favourites) != len(answer) or not room:
        return BegunAnswer([], open=True)
    parted = next((i for i, (a, b) in enumerate(zip(answer, favourites, strict=True)) if a != b), None)
    tokens = answer if parted is None else [*answer[:parted], favourites[parted]]
    ended = next((i for i, token in enumerate(tokens) if ends(token)), None)
    if ended is not None:
        return BegunAnswer(tokens[: ended + 1], open=False)
    return BegunAnswer(tokens, open=len(tokens) < most)
