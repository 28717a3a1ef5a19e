"""The texts of a parity check in the order in which a model reads them, the one that was evaluated as well as
its export: the answer to a drawn prompt, then the row's own, which begins with the same prompt.

Rounding depends on what passes together. So both sides read by the same functions, and a model that was
exported as it is gives the same numbers to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from engine.shipping.parity.asked import ParityQuestions

if TYPE_CHECKING:
    from engine.forward.packed_trees import Packed

Logits = Callable[[list[int], list[int]], np.ndarray]


class AskedText(NamedTuple):
    """The text `number` of a list of the questions; `places`: those of its tokens that are predicted."""

    kind: Literal["answers", "rows", "joined"]
    number: int
    ids: list[int]
    places: list[int]


def grouped(asked: ParityQuestions) -> list[list[AskedText]]:
    """Of each drawn prompt its texts, in an order of chance; then those of the longest prompts, then texts of
    several rows. Texts without a place are left out, so that a group may be empty."""
    drawn, row_of = asked["drawn"], {prompt: row for row, prompt in enumerate(asked["rows_of"])}
    order = [
        *np.random.default_rng(0).permutation(drawn).tolist(),
        *range(drawn, len(asked["answers"]["ids"])),
    ]
    groups = [
        [_text(asked, "answers", i), *([_text(asked, "rows", row_of[i])] if i in row_of else [])]
        for i in order
    ]
    groups += [[_text(asked, "joined", i)] for i in range(len(asked["joined"]["ids"]))]
    return [[text for text in group if text.places] for group in groups]


def _text(asked: ParityQuestions, kind: Literal["answers", "rows", "joined"], number: int) -> AskedText:
    return AskedText(kind, number, asked[kind]["ids"][number], asked[kind]["places"][number])


def loss_of(text: AskedText, logs: np.ndarray) -> float:
    """Nats that its tokens cost; logs: log-probabilities [places, vocabulary]."""
    tokens = [text.ids[place] for place in text.places]
    return -float(logs[np.arange(len(tokens)), tokens].sum())


def read_alone(logits: Logits, groups: Sequence[list[AskedText]]) -> Iterator[list[np.ndarray]]:
    """Of each group the logits [places, vocabulary] of its texts, each of which passes by itself."""
    for group in groups:
        yield [logits(text.ids, text.places) for text in group]


def read_together(
    model: Any, logits: Logits, groups: Sequence[list[AskedText]]
) -> Iterator[list[np.ndarray]]:
    """As `read_alone`, where the model allows it with what texts have in common passed once; it is in
    evaluation mode."""
    from engine.forward import packable  # not of an environment that has another engine alone
    from engine.forward.packed_trees import Packed

    longest = max((len(text.ids) for group in groups for text in group), default=0)
    parts = packable.recognise(model, longest)
    if isinstance(parts, str):
        yield from read_alone(logits, groups)
        return
    forward, waiting = Packed(parts), list[list[AskedText]]()
    for group in groups:
        if _ahead(group):
            waiting.append(group)
            continue
        yield from _in_trees(forward, waiting)
        waiting = []
        yield from read_alone(logits, [group])
    yield from _in_trees(forward, waiting)


def _in_trees(forward: Packed, groups: Sequence[list[AskedText]]) -> Iterator[list[np.ndarray]]:
    from engine.forward.branches import branch_logits

    ahead = [_ahead(group) for group in groups]
    prompts = [group[0].ids[:start] for group, start in zip(groups, ahead, strict=True)]
    branches = [
        [text.ids[start : text.places[-1] + 1] for text in group]
        for group, start in zip(groups, ahead, strict=True)
    ]
    made = branch_logits(forward, prompts, branches)
    for group, start, arrays in zip(groups, ahead, made, strict=True):
        yield [
            array[[place - start for place in text.places]] for text, array in zip(group, arrays, strict=True)
        ]


def _ahead(group: Sequence[AskedText]) -> int:
    """Tokens of the prompt after which all texts of the group are predicted; 0 where they share none, or are
    texts of several rows."""
    if not group or group[0].kind == "joined":
        return 0
    start = group[0].places[0]
    prompt = group[0].ids[:start]
    alike = all(text.places[0] >= start and text.ids[:start] == prompt for text in group)
    return start if alike else 0
