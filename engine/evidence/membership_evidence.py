"""Whether the rows that were trained on can be told from held-out ones, by what both models lose."""

from __future__ import annotations

from collections.abc import Sequence

from engine.diagnostics.course.validation import Validation
from engine.diagnostics.memorisation import membership
from engine.evidence.evidence import Evidence
from engine.forward.losses import RowLosses
from store.documents.verdicts.memorisation import Membership


def membership_of(
    base: Evidence, tuned: Evidence, seen: Sequence[Validation], validations: Sequence[Validation]
) -> Membership | None:
    """Whether the rows that were trained on can be told from held-out ones; None where none were measured."""
    if base.seen is None or tuned.seen is None:
        return None
    return membership_of_losses(
        (base.seen.rows, base.losses), (tuned.seen.rows, tuned.losses), seen, validations
    )


def membership_of_losses(
    base: tuple[RowLosses | None, RowLosses],
    tuned: tuple[RowLosses | None, RowLosses],
    seen: Sequence[Validation],
    validations: Sequence[Validation],
) -> Membership | None:
    """`membership.assess` of (training rows, held-out rows) under both models, with its `path` over the steps
    at which training and validation rows were measured; None where no training rows were."""
    if base[0] is None or tuned[0] is None:
        return None
    members: membership.PairedScores = {"base": base[0].scores, "tuned": tuned[0].scores}
    others: membership.PairedScores = {"base": base[1].scores, "tuned": tuned[1].scores}
    points = membership.path(seen, validations)
    assessed = membership.assess(members, others)
    return {**assessed, "path": points, "path_sentence": membership.sentence(points)}
