"""A form generated from a config model: labels, help, defaults, bounds and choices come from its fields, and
validation errors are shown at the field.

Typed values are kept in the session under a prefix. A part that is more than a field (a table, an upload) is
drawn by its page, which passes the value with `put`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import streamlit as st
from pydantic import BaseModel, ValidationError
from streamlit.delta_generator import DeltaGenerator

from pages.shared.session import escape_markdown, show_error
from store.core.config import Config, describe_validation_errors, read_yaml, to_yaml
from store.core.errors import ConfigError, TunebenchError
from store.core.model_fields import (
    FieldBounds,
    FieldDisplay,
    FieldKind,
    format_title,
    get_default,
    get_display,
    read_bounds,
    read_kind,
)

Model = TypeVar("Model", bound=Config)
SCALARS = (bool, int, float, str, datetime)
LONG_TEXT = 1_000  # characters; a field that allows this many is drawn as a text area


class ModelForm(Generic[Model]):
    """A form for the fields of one model, drawn in any order and place; `parse` validates the values."""

    def __init__(
        self, model: type[Model], prefix: str, present: BaseModel | Mapping[str, Any] | None = None
    ) -> None:
        """present: initial values; the default is used for missing ones. Fields already drawn under the same
        prefix keep their values.
        """
        self.model = model
        self.prefix = prefix
        self.values: dict[str, Any] = {}  # present values of the fields that were drawn or put
        self._present = present.model_dump() if isinstance(present, BaseModel) else present or {}
        self._unreadable: dict[str, ConfigError] = {}  # fields whose text is not YAML
        self._places: dict[str, DeltaGenerator] = {}  # below each field, for its errors
        self._labels: dict[str, str] = {}  # as drawn

    def draw(self, *fields: str, columns: int = 0) -> None:
        """Draw the fields one below another, or in rows of `columns`."""
        for start in range(0, len(fields), columns or 1):
            row = fields[start : start + (columns or 1)]
            for place, field in zip(st.columns(columns) if columns else [st.container()], row, strict=False):
                with place:
                    self.draw_field(field)

    def draw_field(
        self,
        field: str,
        *,
        choices: Mapping[Any, str] | None = None,
        label: str = "",
        key: str = "",
        disabled: bool = False,
        width: int | None = None,
        present: Any = None,
        display: FieldDisplay | None = None,
        linked: bool = False,
    ) -> Any:
        """Draw one field and return its value. choices: value -> title, if the model does not define them;
        label: replaces the model's title; key: of the widget, if not the prefix and the field's name;
        present: initial value, if not the form's; display: replaces the model's, e.g. for another unit;
        linked: keep the value in the page's link, under its key.
        """
        described = self.model.model_fields[field]
        widget = Widget(
            label=label or format_title(field, described),
            kind=read_kind(described.annotation),
            display=display or get_display(described),
            bounds=read_bounds(described),
            value=self.get_present(field) if present is None else present,
            options={"key": key or f"{self.prefix}{field}", "help": described.description}
            | {"disabled": disabled}
            | ({"width": width} if width else {})
            | ({"bind": "query-params"} if linked else {}),
        )
        listed = build_choices(widget.kind, widget.display)
        if choices is not None:
            listed = dict(choices)
            if widget.value and not widget.kind.repeated:
                listed.setdefault(widget.value, str(widget.value))  # kept if deleted or given by name
        self._labels[field] = widget.label
        self._unreadable.pop(field, None)
        try:
            self.values[field] = widget.draw_choice(listed) if listed is not None else widget.draw()
        except ConfigError as error:  # of YAML
            self.values[field], self._unreadable[field] = None, error
        if self.values[field] is None and widget.kind.type not in SCALARS and listed is None:
            self.values[field] = get_default(described)
        self.mark(field)
        return self.values[field]

    def get_present(self, field: str) -> Any:
        """The initial value of a field: as given, or its default."""
        return self._present.get(field, get_default(self.model.model_fields[field]))

    def mark(self, *fields: str) -> None:
        """Show here what is wrong with these fields, which the page has just drawn."""
        place = st.empty()
        self._places |= dict.fromkeys(fields, place)

    def put(self, **values: Any) -> None:
        """Set values of fields that the page draws itself or does not ask for."""
        self.values |= values

    def parse(self, **more: Any) -> Model | None:
        """The validated model, or None if it is invalid, with each error shown at its field."""
        document = {**self.values, **more}
        model, problems = validate_fields(self.model, document)
        if self._unreadable:
            model, problems = None, problems | self._unreadable
        for field, problem in problems.items():
            if (
                field in self._places
                and field not in self._unreadable
                and document.get(field) in (None, "", [])
            ):
                label = self._labels.get(field) or format_title(field, self.model.model_fields[field])
                problem = ConfigError(f"{label}: this field is required.")
            self.show(problem, field)
        return model

    def show(self, error: TunebenchError, field: str = "") -> None:
        """Show an error, also one of the engine, at the field that it names, or below what was drawn last."""
        place = self._places.get(field or error.field.split(".")[0])
        if place is None:
            show_error(error)
        else:
            place.markdown(format_note("error", str(error)))


class Widget:
    """One field as a Streamlit widget."""

    def __init__(
        self,
        label: str,
        kind: FieldKind,
        display: FieldDisplay,
        bounds: FieldBounds,
        value: Any,
        options: Mapping[str, Any],
    ) -> None:
        self.label, self.kind, self.display, self.bounds = label, kind, display, bounds
        self.value, self.options = value, options

    def draw(self) -> Any:
        """Draw it by type. Raises TypeError for a type without a widget."""
        if self.kind.type not in SCALARS:
            return self._draw_yaml()
        if self.kind.repeated:
            return self._draw_texts() or (None if self.kind.nullable else [])
        if self.kind.type is bool:
            return st.toggle(self.label, bool(self.value), **self.options)
        if self.kind.type in (int, float):
            return self._draw_number()
        if self.kind.type is datetime:
            return st.datetime_input(self.label, self.value, **self.options)
        return self._draw_text()

    def draw_choice(self, choices: Mapping[Any, str]) -> Any:
        """Draw a select box or a multiselect."""

        def name(value: Any) -> str:
            return choices.get(value, str(value))

        if self.kind.repeated:
            return st.multiselect(
                self.label,
                list(choices),
                [value for value in self.value or () if value in choices],
                format_func=name,
                placeholder=self.display.empty or self.display.example or None,
                max_selections=self.bounds.length if self.bounds.length != len(choices) else None,
                accept_new_options=self.display.open,
                **self.options,
            )
        place = list(choices).index(self.value) if self.value in choices else None
        if place is None and not self.kind.nullable and self.kind.choices:
            place = 0
        chosen = st.selectbox(
            self.label,
            list(choices),
            place,
            format_func=name,
            placeholder=self.display.empty or self.display.example or None,
            accept_new_options=self.display.open,
            **self.options,
        )
        return chosen if chosen is not None or self.kind.nullable else ""

    def _draw_number(self) -> int | float | None:
        """Draw a number input in the form's unit, with bounds that include the present value."""
        whole = self.kind.type is int and self.display.scale == 1
        present = None if self.value is None else round(self.display.scale * self.value, 10)
        ends = (
            self._find_end(self.display.low, self.bounds.low, present, min),
            self._find_end(self.display.high, self.bounds.high, present, max),
        )
        step = self.display.step or (1 if whole else None)
        low, high, begin, by = (
            None if value is None else int(value) if whole else float(value)
            for value in (*ends, present, step)
        )

        def convert(given: float) -> int | float:
            return int(given) if whole else round(float(given) / self.display.scale, 12)

        numbers: Mapping[str, Any] = {"min_value": low, "max_value": high, "value": begin, "step": by}
        form = None if whole else "%g"
        if self.display.slider:
            return convert(st.slider(self.label, format=form, **numbers, **self.options))
        typed = st.number_input(
            self.label,
            format=form,
            placeholder=self.display.empty or self.display.example or None,
            **numbers,
            **self.options,
        )
        return None if typed is None else convert(typed)

    def _find_end(
        self, own: float | None, bound: float | None, present: float | None, widen: Callable[..., float]
    ) -> float | None:
        end = own if own is not None or bound is None else bound * self.display.scale
        return end if end is None or present is None else widen(end, present)

    def _draw_text(self) -> str | None:
        hint = self.display.empty or self.display.example or None
        drawn: Mapping[str, Any] = {"max_chars": self.bounds.length, "placeholder": hint, **self.options}
        draw = st.text_area if (self.bounds.length or 0) >= LONG_TEXT else st.text_input
        typed = draw(self.label, self.value or "", **drawn)
        text = (typed or "").strip()
        return text if text or not self.kind.nullable else None

    def _draw_yaml(self) -> Any:
        """Draw a text area for a list or an object. Raises ConfigError if the text is not YAML."""
        hint = self.display.empty or self.display.example or "YAML"
        present = to_yaml(self.value) if self.value not in (None, {}, []) else ""
        typed = st.text_area(self.label, present, placeholder=hint, **self.options)
        return read_yaml(typed) if (typed or "").strip() else None

    def _draw_texts(self) -> list[str]:
        separator = self.display.separator
        if not separator:
            present = list(self.value or ())
            return st.multiselect(
                self.label,
                present,
                present,
                accept_new_options=True,
                max_selections=self.bounds.length,
                placeholder=self.display.empty or "Type a text",
                **self.options,
            )
        draw = st.text_area if separator == "\n" else st.text_input
        joined = (", " if separator == "," else separator).join(self.value or ())
        hint = self.display.empty or self.display.example or None
        typed = draw(self.label, joined, placeholder=hint, **self.options)
        return split_texts(typed or "", separator)


def build_choices(kind: FieldKind, display: FieldDisplay) -> Mapping[str, str] | None:
    """Values and titles of a field with a fixed set of values; None for other fields."""
    if not kind.choices:
        return None
    return {value: display.choices.get(value, str(value)) for value in kind.choices}


def split_texts(typed: str, separator: str) -> list[str]:
    """Split a text into its distinct entries."""
    return list(dict.fromkeys(text.strip() for text in typed.split(separator) if text.strip()))


def validate_fields(
    model: type[Model], document: Mapping[str, Any]
) -> tuple[Model | None, dict[str, ConfigError]]:
    """The config or None, and the errors by field (all of them, not only the first)."""
    problems: dict[str, ConfigError] = {}
    rest = dict(document)
    while True:
        try:
            config = model.parse(rest)
            return (None if problems else config), problems
        except ConfigError as error:
            errors = [error]
            if isinstance(error.__cause__, ValidationError):
                errors = describe_validation_errors(error.__cause__, list(model.model_fields))
        for each in errors:
            problems.setdefault(each.field.split(".")[0], each)
        bad = [field for field in problems if field in rest]
        if not bad:
            return None, problems
        for field in bad:
            del rest[field]


def format_note(level: str, message: str) -> str:
    """A message under a field, as Markdown."""
    color = "red" if level == "error" else "orange"
    return f":{color}[:material/{level}: {escape_markdown(message)}]"
