"""The table of methods as text, for the command line and the documentation."""

from __future__ import annotations

from typing import TypedDict

from store.training.methods import FAMILY_TITLES, METHODS, QUANTISATION_TITLES, Method

HEADS = ("method", "trained parameters", "learning rate", "base model in", "merges", "when")


class RateFrom(TypedDict):
    """Default learning rate for base models from a number of parameters on."""

    from_parameters: int
    rate: float


class MethodRow(TypedDict):
    """Text description of a method."""

    method: str
    title: str
    family: str
    when: str
    trained_parameters: str
    learning_rate: list[RateFrom]
    known_rates: list[float]  # range outside of which a warning is shown
    held: list[str]
    merges: bool
    architectures: list[str]  # empty for any
    encoders: bool
    fields: list[str]  # fields of the config
    source: str


def list_method_rows() -> list[MethodRow]:
    """Return one document per method, in the order of the table."""
    return [
        {
            "method": name,
            "title": method.title,
            "family": FAMILY_TITLES[method.family],
            "when": method.when,
            "trained_parameters": method.formula,
            "learning_rate": [{"from_parameters": least, "rate": rate} for least, rate in method.rate],
            "known_rates": list(method.rates),
            "held": [QUANTISATION_TITLES[held] for held in method.held],
            "merges": method.merges,
            "architectures": list(method.architectures),
            "encoders": method.encoders,
            "fields": list(method.fields),
            "source": method.source,
        }
        for name, method in METHODS.items()
    ]


def format_methods_table() -> str:
    """Format the table for docs/methods.md."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for name, method in METHODS.items():
        purpose = "" if method.encoders else " Not for encoders such as BERT."
        if method.architectures:
            purpose = f" Model types: {', '.join(method.architectures)}."
        cells = (
            f"**{method.title}** `{name}`, {method.source}",
            method.formula,
            format_learning_rates(method),
            ", ".join(QUANTISATION_TITLES[held] for held in method.held),
            "yes" if method.merges else "no",
            method.when + purpose,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def format_learning_rates(method: Method) -> str:
    """Format the default learning rates and where they change: 2e-05, 1e-05 from 3 B."""
    first, *rest = method.rate
    more = "".join(f", {rate:g} from {least // 1_000_000_000} B" for least, rate in rest)
    return f"{first[1]:g}{more}"
