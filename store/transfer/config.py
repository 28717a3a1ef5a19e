"""Config of a transfer matrix: runs, data sets, and the number of held-out rows of each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from store.core.config import Config
from store.core.model_fields import FieldDisplay
from store.core.schemas import ConfigDocument

KIND = "transfer"
MAX_RUNS = 20
MAX_DATASETS = 12
Part = Literal["test", "validation"]
ASKED = ("part", "max_rows", "seed", "max_length")  # cells that differ in one of these fields aren't the same


class TransferConfig(Config):
    """Evaluate every run on every data set, compared with the base model. Training rows can't be used."""

    runs: list[str] = Field(
        min_length=1, max_length=MAX_RUNS, description="Run ids or names, with one base model in common"
    )
    datasets: list[str] = Field(min_length=1, max_length=MAX_DATASETS, description="Data set ids or names")
    part: Annotated[Part, FieldDisplay(choices={"test": "Test", "validation": "Validation"})] = Field(
        "test", title="Held-out split", description="Split of each data set; never training rows"
    )
    max_rows: Annotated[int | None, FieldDisplay(step=50, empty="all")] = Field(
        100, ge=2, title="Maximum rows", description="Random sample size per data set; all rows if null"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Random seed of the sample")
    max_length: int | None = Field(
        1024, ge=8, le=1_048_576, description="Maximum tokens per row, capped at the model's context length"
    )
    per_device_eval_batch_size: int = Field(16, ge=1, le=4096)

    @field_validator("runs", "datasets")
    @classmethod
    def _once(cls, values: list[str]) -> list[str]:
        if "" in values:
            raise ValueError("empty name")
        return list(dict.fromkeys(values))

    @property
    def asked(self) -> ConfigDocument:
        """Fields that two cells must share to be comparable."""
        return {name: getattr(self, name) for name in ASKED}

    def document(self) -> ConfigDocument:
        """Return the config as it is stored and sent; null means all."""
        return self.model_dump()
