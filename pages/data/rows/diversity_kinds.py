"""The figures of how diverse a data set is: what each is called, what it means, its band, and the halves.

Pure functions. Most of these numbers have no right value: they compare two versions of a set, or two sets of
a kind. The names that papers use stand in the explanations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.diagnostics.phrasing import number, percent, percent_beside, plural
from store.catalog.signals import SIGNALS
from store.documents.data.signal_figures import GroupFigure, SetFigure, SignalFigure

HALVES = {"half_loss_topics": "topics", "half_loss_pairs": "word pairs", "half_loss": "coverage"}


@dataclass(frozen=True)
class DiversityKind:
    """scale: 100 shows a share in per cent. healthy: [low, high), None for no bound."""

    name: str
    title: str
    means: str
    scale: int = 1
    places: int = 2
    healthy: tuple[float | None, float | None] | None = None
    below: str = ""
    above: str = ""


KINDS = (
    DiversityKind(
        "vendi",
        "Variety",
        "As varied as so many rows that have nothing in common (Vendi score)",
        places=1,
    ),
    DiversityKind(
        "cluster_entropy", "Balance of topics", "1 where all topics are equally frequent (entropy)"
    ),
    DiversityKind(
        "top_template",
        "Most frequent beginning",
        "Share of the rows that begin with the same words",
        scale=100,
        places=0,
        healthy=(None, 0.1),
        above="The model learns the template rather than the task.",
    ),
    DiversityKind(
        "compression",
        "Compressed size",
        "What is left of the text's size when it is compressed (gzip)",
        scale=100,
        places=0,
        healthy=(0.3, 0.5),
        below="The text repeats itself.",
        above="The text is unlike prose: codes, numbers, or many languages.",
    ),
    DiversityKind(
        "distinct_1", "Different words", "Share of the words that are different (distinct-1)", 100, 1
    ),
    DiversityKind(
        "distinct_2", "Different word pairs", "Share of the pairs that are different (distinct-2)", 100, 1
    ),
    DiversityKind(
        "self_bleu",
        "Likeness of the rows",
        "How well a row is predicted by the others, 0 to 1; lower is more diverse (Self-BLEU)",
    ),
)


def of_set(measured: Mapping[str, SignalFigure]) -> dict[str, SetFigure]:
    """The figures of the set as a whole, by name."""
    return {name.removeprefix("set."): figure for name, figure in measured.items() if "value" in figure}


def judged(kind: DiversityKind, value: float) -> tuple[str, str]:
    """("good" | "warn" | "" where there is no band, what it means)."""
    if kind.healthy is None:
        return "", ""
    low, high = kind.healthy
    if low is not None and value < low:
        return "warn", kind.below
    if high is not None and value > high:
        return "warn", kind.above
    return "good", ""


def value_text(kind: DiversityKind, value: float) -> str:
    """The value in its unit, with as many digits as tell it from the bound that it is beyond."""
    text = number(kind.scale * value, kind.places) + ("%" if kind.scale == 100 else "")
    for bound in kind.healthy or ():
        if bound is not None and text == f"{kind.scale * bound:g}%":
            return percent_beside(value, bound)
    return text


def band(kind: DiversityKind) -> str:
    """The healthy band in words, or ""."""
    if kind.healthy is None:
        return ""
    unit = "%" if kind.scale == 100 else ""
    low, high = (None if side is None else f"{kind.scale * side:g}{unit}" for side in kind.healthy)
    return f"{f'{low} to {high}' if low else f'At most {high}'} is healthy"


def half_sentence(set_figures: Mapping[str, SetFigure], duplicates: GroupFigure | None) -> str:
    """What a random half of the rows keeps, with the range over the halves, and whether more rows would add
    anything; "" where unknown. `duplicates`: figures of `near_group`, where they were measured.

    Coverage compares with the distance to the nearest row. Of a repeated row that is its repetition, at no
    distance, so that a half seems to lose everything: it is left out, and repetition is said instead.
    """
    repeated = _repeated(duplicates)
    trusted = duplicates is not None and not repeated
    names = {name: title for name, title in HALVES.items() if trusted or name != "half_loss"}
    half_figures = {
        name: set_figures[name]
        for name in names
        if name in set_figures and set_figures[name]["value"] is not None
    }
    if not half_figures:
        return repeated
    parts = []
    for name, figure in half_figures.items():
        losses = (figure["high"], figure["low"])
        low, high = (round(100 * (1 - loss)) for loss in losses if loss is not None)
        kept = f"{low}%" if low == high else f"{low} to {high}%"
        parts.append(f"**{kept}** of the {names[name]}")
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    rows = " or ".join(
        f"{n:,}" for n in sorted({figure["n"] for figure in half_figures.values()}, reverse=True)
    )
    halves = f"{next(iter(half_figures.values()))['repeats']} random halves of {rows} rows"
    sentence = f"A random half of the rows keeps {listed} ({halves})."
    return f"{sentence} {repeated or _advice(half_figures.get('half_loss'))}".strip()


def _repeated(duplicates: GroupFigure | None) -> str:
    """How many rows nearly repeat an earlier one, in the words of the summary, where that is too many."""
    most = (SIGNALS["near_group"].healthy or (None, None))[1]
    if not duplicates or not duplicates["n"] or most is None:
        return ""
    share = duplicates["extra"] / duplicates["n"]
    if share <= most:
        return ""
    share_of = f"**{percent(share)}** of {plural(duplicates['n'], 'row')}"
    return f"{share_of} nearly repeat an earlier one: these add little. Look at them under Clean."


def _advice(coverage: SetFigure | None) -> str:
    if coverage is None or coverage["value"] is None:
        return ""
    if coverage["value"] < 0.05:
        return "Half would do nearly as well: more rows of this kind add little."
    if coverage["value"] < 0.2:
        return "Rows overlap somewhat; more of the same kind add a little."
    return "Rows overlap little: each one adds something."
