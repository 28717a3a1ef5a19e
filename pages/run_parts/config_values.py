"""Values of a run's fields as they are typed, and back: what the form says is what the config gets. Pure."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from store.config.training.train_config import TrainConfig
from store.contract.errors import ConfigError


def default(field: str) -> Any:
    """The value of the field when nothing is said; None for one that is worked out from others."""
    info = TrainConfig.model_fields[field]
    return None if info.is_required() else info.get_default(call_default_factory=True)


def choices(field: str) -> tuple[str, ...]:
    """The values of a field that has a few; empty for every other."""
    annotation = TrainConfig.model_fields[field].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def as_text(value: Any) -> str:
    """A value as a text field shows it: 0.0001 rather than 1e-04, lists with commas, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(str(part) for part in value)
    if isinstance(value, float):
        short = f"{value:.10f}".rstrip("0").rstrip(".") if 1e-5 <= abs(value) < 1e9 else f"{value:g}"
        return short if float(short or "0") == value else repr(value)
    return str(value)


def as_value(field: str, text: str) -> Any:
    """What a text field says: a number where it is one, else the text, for validation to judge."""
    text = text.strip()
    if field == "target_modules" and text not in ("all-linear", "keys-values-mlp"):
        return [part.strip() for part in text.split(",") if part.strip()]
    if TrainConfig.model_fields[field].annotation is str:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def check(document: dict[str, Any]) -> tuple[TrainConfig | None, dict[str, str]]:
    """The config, or None, and what is wrong by field: every bad field, not the first alone."""
    problems: dict[str, str] = {}
    rest = dict(document)
    while True:
        try:
            config = TrainConfig.parse(rest)
            return (None if problems else config), problems
        except ConfigError as error:
            field = error.field.split(".")[0]
            problems.setdefault(field, str(error))
            if field not in rest:
                return None, problems
            del rest[field]
