"""The items of a round by which raters are checked: how they are dealt, and who passed the qualification.

A rater must not know them by how they look, so they hold as many answers as the round's own items. A gold
item is shown as any other, its sides drawn; an attention item names the side to choose in its prompt, so that
it is shown in its own order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.diagnostics.rating.rows.known_answers import passed_qualification
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
    let_in: whoever leads the round let the rater in."""
    if let_in:
        return True
    return passed_qualification(tasks, items, config.qualification_pass, config.gold_tolerance)
