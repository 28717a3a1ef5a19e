"""The items of a round by which raters are checked: how they are dealt, and who passed the qualification.

A rater must not know them by how they look, so they hold as many answers as the round's own items. A gold
item is shown as any other, its sides drawn; an attention item names the side to choose in its prompt, so that
it is shown in its own order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.diagnostics.rating.rows.known_answers import is_right
from engine.rounds.dealing import Unit
from store.config.judging.round_config import RoundConfig
from store.documents.rating.rating_desk import RatingProtocol
from store.documents.rating.round import DealtTask, RoundItem


def check_unit(item_id: int, systems: int, protocol: RatingProtocol) -> Unit:
    """What is rated of a check item in a round of so many models: a pair, all answers, or one."""
    if protocol == "pairwise":
        return Unit(item_id, (0, 1))
    return Unit(item_id, tuple(range(systems)) if protocol in ("rank", "label") else (0,))


def qualified(
    config: RoundConfig, tasks: Sequence[DealtTask], items: Iterable[RoundItem], *, let_in: bool = False
) -> bool | None:
    """Whether a rater may rate the round, by their tasks; None until every qualification item is answered.

    One that was skipped is not right, else whoever skips all of them would pass. let_in: whoever leads the
    round let the rater in.
    """
    expected = {item["item_id"]: item["expected"] for item in items if item["check"] == "qualification"}
    if let_in or not expected:
        return True
    answered = {task["item_id"]: task for task in tasks if task["answer"] and task["item_id"] in expected}
    if len(answered) < len(expected):
        return None
    right = sum(
        answer is not None and is_right(answered[item_id], answer, config.gold_tolerance) is True
        for item_id, answer in expected.items()
    )
    return right >= config.qualification_pass * len(expected) - 1e-9  # 0.7 of 10 is 7, and not 6.999…
