"""Recipes: steps that create a new version of a data set from an old one.

Steps run in order on the remaining rows. Signals (`store.data.signals`) used in a filter are those measured
on the old version; `drop_duplicates` and `redact` use the text as it is when they run. Every row of the old
version ends up as kept, changed or dropped, with the step responsible.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from store.core.config import Config, ModelSource
from store.core.model_fields import FieldDisplay
from store.core.row_schemas import Fate
from store.data.filters import Filter
from store.data.formats import FormatName

OF_OTHERS = ("mix", "add_rows")  # steps whose `dataset` is another data set
PartName = Literal["train", "validation", "test"]
FATES: tuple[Fate, ...] = ("kept", "changed", "dropped", "added")
PII_KINDS = ("email", "phone", "card", "iban", "ip", "ssn", "person", "address", "secret")


class FixEncoding(Config):
    """Repair mojibake, replacement characters (where the original can be determined), control characters."""

    step: Literal["fix_encoding"] = "fix_encoding"


class Normalise(Config):
    """Apply one Unicode form, use plain line ends, and collapse runs of spaces and blank lines."""

    step: Literal["normalise"] = "normalise"
    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    white_space: bool = True


class Strip(Config):
    """Remove white space around every turn and, optionally, HTML tags and boilerplate lines."""

    step: Literal["strip"] = "strip"
    html: bool = False
    boilerplate: bool = False


class MapColumns(Config):
    """Read the rows again from the columns of their file."""

    step: Literal["map_columns"] = "map_columns"
    format: FormatName
    columns: dict[str, str] = Field(description="role -> column of the file")
    instruction: str = ""


class FilterRows(Config):
    """Keep or drop the rows that match the filter."""

    step: Literal["filter"] = "filter"
    where: Filter
    action: Literal["drop", "keep"] = "drop"
    reason: str = Field("", max_length=200, description="Reason shown in the table of row outcomes")

    @model_validator(mode="after")
    def _says_something(self) -> FilterRows:
        if not self.where:
            raise ValueError("where is empty: choose the rows")
        return self


class DropDuplicates(Config):
    """Keep one row of every group of duplicates. Exact: identical characters (NFC). Folded: identical except
    for case and spacing, which in code may matter. Near: similar to the row that is kept. Prompt: same
    prompt, whatever the answer. Conflict: same prompt with contradictory answers.
    """

    step: Literal["drop_duplicates"] = "drop_duplicates"
    kind: Literal["exact", "folded", "near", "prompt", "conflict"] = "exact"
    threshold: Annotated[float, FieldDisplay(step=0.05)] = Field(
        0.7, ge=0.5, le=1, description="Jaccard similarity of word 5-grams; near only"
    )
    keep: Literal["first", "longest_answer", "shortest_answer", "most_frequent"] = Field(
        "first", description="For labels: keep the first or the most frequent"
    )
    conflicts: Literal["keep", "drop"] = Field(
        "keep",
        description="Rows that differ only in their label or answer are conflicts and are kept; drop "
        "treats them as duplicates",
    )


class Redact(Config):
    """Replace matches with a placeholder such as [EMAIL]."""

    step: Literal["redact"] = "redact"
    kinds: list[str] = Field(
        default_factory=lambda: ["email", "phone", "card", "iban", "ip", "ssn", "secret"]
    )

    @model_validator(mode="after")
    def _known_kinds(self) -> Redact:
        if unknown := set(self.kinds) - set(PII_KINDS):
            raise ValueError(
                f"{', '.join(sorted(unknown))} can't be redacted; known are {', '.join(PII_KINDS)}"
            )
        if not self.kinds:
            raise ValueError("kinds is empty: name at least one")
        return self


class CapLength(Config):
    """Cut or drop rows longer than this many tokens of the model (or words, without a model)."""

    step: Literal["cap_length"] = "cap_length"
    most: int = Field(ge=8)
    unit: Literal["tokens", "words"] = "tokens"
    model: Annotated[ModelSource, FieldDisplay(open=True)] = ""
    action: Literal["drop", "cut"] = "drop"


class Balance(Config):
    """Keep at most this many rows per value of a column, sampled by seed. Rows without a value are kept."""

    step: Literal["balance"] = "balance"
    column: Annotated[str, FieldDisplay(open=True)] = "label"
    most: Annotated[int | None, FieldDisplay(empty="automatic")] = Field(
        None, ge=1, description="Rows per value; defaults to the count of the rarest value"
    )
    seed: int = Field(0, ge=0)


class Sample(Config):
    """Keep this many rows, chosen at random or spread over the topics of the map."""

    step: Literal["sample"] = "sample"
    rows: int = Field(ge=1)
    by: Literal["random", "diversity"] = "random"
    seed: int = Field(0, ge=0)


class Relabel(Config):
    """Drop suspected label errors, or replace their labels with those that the other rows suggest."""

    step: Literal["label_errors"] = "label_errors"
    action: Literal["drop", "suggested"] = "drop"
    most: Annotated[int | None, FieldDisplay(empty="all")] = Field(
        None, ge=1, description="Maximum number of rows, the most suspicious first"
    )


class Mix(Config):
    """Add rows of another data set, sampled by seed, until they make up this share of the whole."""

    step: Literal["mix"] = "mix"
    dataset: Annotated[str, FieldDisplay(open=True)]
    share: Annotated[float, FieldDisplay(step=0.05)] = Field(gt=0, lt=1)
    seed: int = Field(0, ge=0)


class AddRows(Config):
    """Add rows of another data set and keep the split: every row stays in its present part, so that no
    held-out row is ever trained on. A training row with the same prompt as a new row and a different
    answer is replaced by it.
    """

    step: Literal["add_rows"] = "add_rows"
    dataset: Annotated[str, FieldDisplay(open=True)]
    parts: list[PartName] = Field(
        default_factory=lambda: list[PartName](("train", "validation")),
        min_length=1,
        description="Parts of the other data set",
    )
    called: str = Field("", max_length=120, description="Name of the data set, if dataset is an id")
    run: str = Field(
        "", description="Id of the run whose split these rows keep; defaults to the data set's own split"
    )


class Edit(Config):
    """Manual edit of one row: `messages` or `text`, and the label if it changes. White space is preserved."""

    model_config = ConfigDict(str_strip_whitespace=False)

    row_id: int = Field(ge=0)
    messages: list[dict[str, str]] | None = None
    text: str | None = None
    label: str | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Edit:
        if self.messages is None and self.text is None and self.label is None:
            raise ValueError(f"row {self.row_id} has no messages, text or label")
        for text in (
            self.text,
            self.label,
            *(text for turn in self.messages or [] for text in turn.values()),
        ):
            if text is not None:
                text.encode()  # rejects lone surrogates: UnicodeEncodeError is a ValueError
        return self


class EditRows(Config):
    """Apply manual edits to rows."""

    step: Literal["edit_rows"] = "edit_rows"
    edits: list[Edit] = Field(min_length=1)


Step = Annotated[
    FixEncoding
    | Normalise
    | Strip
    | MapColumns
    | FilterRows
    | DropDuplicates
    | Redact
    | CapLength
    | Balance
    | Sample
    | Relabel
    | Mix
    | AddRows
    | EditRows,
    Field(discriminator="step"),
]


class Recipe(Config):
    """Ordered list of cleaning steps."""

    steps: list[Step] = Field(min_length=1)
