"""Constraints on an answer that a program can check: lengths, words, beginnings, case, language, form.

They are what people write into prompts ("at most 50 words", "in three bullets", "end with a question mark").
Each says itself in words; `engine.metrics.constraint_checks` checks them.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from store.catalog.languages import NAMES, language_name
from store.config.measuring.metric_choice import check_pattern
from store.contract.document import Config

Counted = Literal[
    "characters", "words", "sentences", "lines", "paragraphs", "bullets", "headings", "placeholders"
]
Case = Literal["lower", "upper", "title"]
CASES: dict[Case, str] = {"lower": "in small letters", "upper": "in capitals", "title": "in Title Case"}


class _Between(Config):
    at_least: int | None = Field(None, ge=0)
    at_most: int | None = Field(None, ge=0)

    def _range(self) -> str:
        if self.at_least == self.at_most:
            return f"{self.at_least:,}"
        if self.at_least is None:
            return f"at most {self.at_most:,}"
        least = f"at least {self.at_least:,}"
        return least if self.at_most is None else f"{self.at_least:,} to {self.at_most:,}"

    @model_validator(mode="after")
    def _some_range(self) -> Self:
        low, high = self.at_least, self.at_most
        if low is not None and high is not None and low > high:
            raise ValueError(f"at_least {low} is more than at_most {high}")
        return self


class CountConstraint(_Between):
    """So many of something. Placeholders are [in brackets]."""

    kind: Counted

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least or at_most, or both")
        return self

    def words(self) -> str:
        return f"{self._range()} {self.kind}"


class ContainsConstraint(_Between):
    """Each of `texts` stands in the answer, once or as often as is said."""

    kind: Literal["contains"]
    texts: list[str] = Field(min_length=1, max_length=100)
    ignore_case: bool = True

    def words(self) -> str:
        bounded = self.at_least is not None or self.at_most is not None
        return f"contains {_listed(self.texts)}" + (f" {self._range()} times" if bounded else "")


class ExcludesConstraint(Config):
    """None of `texts` stands in the answer."""

    kind: Literal["excludes"]
    texts: list[str] = Field(min_length=1, max_length=100)
    ignore_case: bool = True

    def words(self) -> str:
        return f"does not contain {_listed(self.texts)}"


class EndConstraint(Config):
    kind: Literal["starts_with", "ends_with"]
    text: str = Field(min_length=1, max_length=1_000)
    ignore_case: bool = False

    def words(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.text!r}"


class CaseConstraint(Config):
    kind: Literal["case"]
    case: Case

    def words(self) -> str:
        return f"is {CASES[self.case]}"


class LanguageConstraint(Config):
    """`language`: ISO 639 code, as the language signal of a data set holds it."""

    kind: Literal["language"]
    language: str

    @field_validator("language")
    @classmethod
    def _known_language(cls, value: str) -> str:
        if value not in NAMES:
            raise ValueError("use a code such as en, de or zh")
        return value

    def words(self) -> str:
        return f"is in {language_name(self.language)}"


class PatternConstraint(Config):
    """`pattern`: RE2, found anywhere in the answer."""

    kind: Literal["matches", "does_not_match"]
    pattern: str = Field(min_length=1, max_length=2_000)

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        return check_pattern(value)

    def words(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.pattern}"


class JsonConstraint(Config):
    kind: Literal["json"]

    def words(self) -> str:
        return "is JSON"


Constraint = Annotated[
    CountConstraint
    | ContainsConstraint
    | ExcludesConstraint
    | EndConstraint
    | CaseConstraint
    | LanguageConstraint
    | PatternConstraint
    | JsonConstraint,
    Field(discriminator="kind"),
]


def _listed(texts: list[str]) -> str:
    return " and ".join(repr(text) for text in texts)
