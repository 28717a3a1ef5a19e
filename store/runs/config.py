"""Interpolation between the base model and the tuned model: configs, and the runs that support it.

The weights at α are those of the base model plus α times the change by tuning (Wortsman et al. 2022): 0 is
the base model, 1 the tuned one. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field, field_validator

from store.core.config import Config, Line
from store.runs.schemas import RunFacts
from store.training.methods import METHODS
from store.training.train_config import TrainConfig

ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MAX_SHARES = 21


class Interpolate(Config):
    """Evaluate models between the base and the tuned model of a run."""

    run: str = Field(min_length=1, description="Id or name of a finished run")
    alphas: list[float] = Field(
        list(ALPHAS),
        min_length=1,
        max_length=MAX_SHARES,
        description="Interpolation factors α; 0 and 1 are added",
    )

    @field_validator("alphas")
    @classmethod
    def _shares(cls, values: Iterable[float]) -> list[float]:
        asked = list(values)
        wrong = [value for value in asked if not 0 <= value <= 1]
        if wrong:
            raise ValueError(f"{wrong[0]:g} is not a valid share: each must be from 0 to 1")
        return sorted({0.0, 1.0, *asked})


class Variant(Config):
    """Save a model between the base and the tuned model of a run as a run of its own."""

    run: str = Field(min_length=1, description="Id or name of a finished run")
    alpha: float = Field(
        gt=0, lt=1, description="Interpolation between the base model (0) and the tuned model (1)"
    )
    name: Line = Field("", max_length=120, description="Default: from the run and α")


def explain_refusal(config: TrainConfig, facts: RunFacts | None = None) -> str:
    """Return why a run's base and tuned model can't be interpolated; empty if they can."""
    method = METHODS[config.method]
    if facts and facts.get("mixed_from"):
        return "It is a mix already: every other share is reached from the run that it was mixed from."
    if config.task != "sft":
        return "A run of instruction tuning is needed: elsewhere the held-out loss is not that of its texts."
    if method.no_line:
        return f"{method.title} has no models in between: {method.no_line}."
    if config.use_dora and "use_dora" in method.fields:
        return "DoRA can't be interpolated: it trains the length of weights separately from their direction."
    if config.init_from and not (method.adapter and config.init_mode == "merge"):
        return "It continued from an earlier run's model, which is not the base of its weights."
    return ""
