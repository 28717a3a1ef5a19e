"""Configs that once had a field by which code that comes with a model was run (`store.contract.no_code`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from store.contract.document import Config
from store.contract.no_code import FIELD, check_no_code, without_field


class RunsNoCode(Config):
    """One of them: the field is dropped where it is false, and refused where it is true."""

    @model_validator(mode="before")
    @classmethod
    def _asks_for_no_code(cls, document: Any) -> Any:
        """Raises ConfigError, which names the field."""
        if not isinstance(document, Mapping) or FIELD not in document:
            return document
        check_no_code(document)
        return without_field(document)

    @classmethod
    def of_past(cls, document: Any) -> Self:
        """Like `parse`, for what was kept and is looked at: whatever it said of code is left out."""
        return cls.parse(without_field(document) if isinstance(document, Mapping) else document)
