"""Whether the model that is judged was chosen on the rows that judge it, and what that costs.

The best of k checkpoints is partly the luckiest on the rows that chose it: of 10 that gained nothing, 12%
were called better at 95%, of 30 26%. Where test rows judge, the choice costs nothing. Else each checkpoint is
held to 1 - 0.05/k (Bonferroni), so that whichever was chosen, what is said holds. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.diagnostics import phrasing

if TYPE_CHECKING:
    from engine.diagnostics.course.validation import Validation


@dataclass(frozen=True)
class Choice:
    """`steps`: validations after step 0 of which the judged model is the best, on the same rows; 0 where none
    was chosen, or other rows judge it."""

    steps: int = 0

    @property
    def confidence(self) -> float:
        """Of each interval."""
        return 1 - 0.05 / max(1, self.steps)

    @property
    def basis(self) -> str:
        """What an interval is called: "95% interval", or that it is one over several steps."""
        return f"95% interval over {self.steps} steps" if self.steps > 1 else "95% interval"

    @property
    def sentences(self) -> list[str]:
        """What a reader must know of it; none where there was no choice."""
        if self.steps < 2:
            return []
        best_of = phrasing.plural(self.steps, "validation")
        return [
            f"There are no test rows: the step was chosen as the best of {best_of} on the same rows that"
            " judge it. The intervals are widened for that; the figures themselves are those of the luckiest"
            " step, and test rows would show less."
        ]


def choice_of(
    split: str, eval_rows: Sequence[Validation], stopped: Mapping[str, Any], config: Mapping[str, Any]
) -> Choice:
    """split: whose rows judge. The other arguments are those of `verdict.judge`."""
    kept_best = config.get("load_best_model_at_end", True) or stopped.get("reason") == "early_stopping"
    if split != "validation" or not kept_best:
        return Choice()
    measured = [v for v in eval_rows if v["step"] > 0 and np.isfinite(np.asarray(v["loss_sums"])).all()]
    return Choice(len(measured))
