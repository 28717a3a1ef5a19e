"""What may be asked of a data set: to measure signals, to clean it into a new version, to export it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from store.catalog.signals import GROUPS
from store.config.data.filters import Filter
from store.config.data.recipe import Recipe
from store.config.training.ask_config import OrderedDataset
from store.config.training.train_config import BUNDLED_MODEL
from store.contract.document import Config, Line
from store.contract.named_sources import ModelSource

ExportFormat = Literal["messages", "prompt_completion", "alpaca", "sharegpt", "csv", "parquet"]


class ProfileConfig(Config):
    """One group of signals, measured for every row of a data set or, where it is dear, for a sample."""

    dataset: str = Field(min_length=1, description="Name or id of a data set")
    group: str = Field(description="A group of store.catalog.signals")
    model: ModelSource = Field(
        BUNDLED_MODEL,
        min_length=1,
        max_length=500,
        description="Whose tokenizer, or whose loss; tokens and difficulty only",
    )
    max_length: int | None = Field(None, ge=8, description="Rows longer than this are cut; tokens only")
    threshold: float = Field(0.7, ge=0.5, le=1, description="Jaccard similarity of near duplicates")
    sample: int | None = Field(None, ge=1, description="Measure only so many rows, drawn by seed 0")

    @field_validator("group")
    @classmethod
    def _known_group(cls, value: str) -> str:
        if value not in GROUPS:
            raise ValueError(f"there is {', '.join(GROUPS)}")
        return value


class CleanConfig(Config):
    """One cleaning: the version that it starts from, the recipe, and what the new version is called."""

    dataset: str = Field(min_length=1, description="Name or id of the old version")
    name: Line = Field(
        "", max_length=80, description="Of the new version; numbered after the old where empty"
    )
    recipe: Recipe = Field(description="The steps, in their order")


class ExportConfig(Config):
    """A version, or the rows of it that a filter names, as a file in the home folder's exports."""

    dataset: str = Field(min_length=1, description="Name or id of a data set")
    format: ExportFormat = Field("messages", description="How each row is written")
    where: Filter = Field(default_factory=Filter, description="Rows that this filter means; all if empty")
    parts: list[Literal["train", "validation", "test"]] | None = Field(None, description="All where left out")
    one_list: bool = Field(False, description="One JSON list in place of a line a row; csv and parquet apart")


class CleanPreviewAsk(Config):
    """A work order, a recipe, and how many examples to show of each fate and step."""

    dataset: OrderedDataset
    mixed: dict[str, OrderedDataset] = Field(default_factory=dict)
    parent: dict[str, object] | None = None  # as the work order has it; a preview measures nothing
    recipe: Recipe
    examples: int = Field(5, ge=0, le=100)
    whole: bool = Field(False, description="All rows, however long it takes")
