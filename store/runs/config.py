"""Going a part of the way from the base model to the tuned one: what is asked, and for which runs it means
something.

The weights at α are those of the base plus α times what tuning changed (Wortsman et al. 2022): 0 is the base
model, 1 the tuned one. Nothing is trained.
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
    """Base and tuned model of a run, and how far to go between them."""

    run: str = Field(min_length=1, description="A finished run: its id or name")
    alphas: list[float] = Field(
        list(ALPHAS), min_length=1, max_length=MAX_SHARES, description="Shares of the way; 0 and 1 are added"
    )

    @field_validator("alphas")
    @classmethod
    def _shares(cls, values: Iterable[float]) -> list[float]:
        asked = list(values)
        wrong = [value for value in asked if not 0 <= value <= 1]
        if wrong:
            raise ValueError(f"{wrong[0]:g} is no share of the way: each is from 0 to 1")
        return sorted({0.0, 1.0, *asked})


class Variant(Config):
    """A model between base and tuned model of a run, to be kept as a run of its own."""

    run: str = Field(min_length=1, description="A finished run: its id or name")
    alpha: float = Field(gt=0, lt=1, description="Share of the way from the base (0) to the tuned model (1)")
    name: Line = Field("", max_length=120, description="Made from the run and the share where left empty")


def explain_refusal(config: TrainConfig, facts: RunFacts | None = None) -> str:
    """Why there is nothing between base and tuned model of such a run; empty where there is."""
    method = METHODS[config.method]
    if facts and facts.get("mixed_from"):
        return "It is a mix already: every other share is reached from the run that it was mixed from."
    if config.task != "sft":
        return "A run of instruction tuning is needed: elsewhere the held-out loss is not that of its texts."
    if method.no_line:
        return f"{method.title} has no models in between: {method.no_line}."
    if config.use_dora and "use_dora" in method.fields:
        return "DoRA has no models in between: it trains lengths of weights apart from their directions."
    if config.init_from and not (method.adapter and config.init_mode == "merge"):
        return "It went on from an earlier run's model, which is not what its weights lie on top of."
    return ""
