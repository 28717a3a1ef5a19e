"""What is in a data set, as far as it was measured: languages, lengths, tokens, topics, diversity.

Pure functions over what was counted at the import and measured since; no row is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.diagnostics.phrasing import number, percent, plural
from pages.data.rows.diversity_kinds import KINDS, judged, of_set
from pages.data.rows.explore_figures import Measured
from pages.shared.quantities import count
from store.catalog.languages import language_name

SHOWN = ("vendi", "top_template")  # of the figures of diversity
FREQUENT = 4  # values of a category that are named
A_KIND = 0.1  # share of the rows from which several answers to a prompt are what the data is made of
Fact = tuple[str, str, str]


def contents(dataset: Mapping[str, Any], measured: Measured) -> list[Fact]:
    """What is in the data, as far as it was measured: languages, lengths, tokens, diversity."""
    text = measured.get("text", {}).get("figures", {})
    facts: list[Fact] = []
    if languages := text.get("language"):
        facts.append(_top("Languages", languages, language_name))
    if (answers := text.get("answer_words")) and not dataset["stats"].get(
        "label_count"
    ):  # else it is a label
        whole = dataset["kind"] == "text"
        facts.append(_spread("Words of a row" if whole else "Length of an answer", answers, "word"))
    references = measured.get("duplicates", {}).get("figures", {}).get("references")
    if references and references["flagged"] > A_KIND * references["n"]:
        share = percent(references["flagged"] / references["n"])
        note = "share a prompt with other right answers; splits keep them together"
        facts.append(("Several references", f"{share} of the rows", note))
    tokens = measured.get("tokens", {})
    if known := tokens.get("figures", {}).get("tokens"):
        total = known["mean"] * dataset["row_count"]
        about = "" if known["n"] == dataset["row_count"] else "about "
        note = (
            f"median {known['median']:,.0f} of {plural(known['n'], 'row')}; 5% are over {known['p95']:,.0f}"
        )
        model = tokens["options"].get("model", "")
        facts.append(("Tokens", f"{about}{count(round(total))}", f"{note}; {model}" if model else note))
    if topics := measured.get("map", {}).get("figures", {}).get("cluster"):
        facts.append(_top("Topics", topics))
    return [*facts, *_diversity(measured)]


def _top(title: str, figures: Mapping[str, Any], name: Callable[[str], str] = str) -> Fact:
    """The most frequent values of a category with their shares."""
    named = [(name(value), rows) for value, rows in figures["values"].items() if value]
    if not named:
        return title, "not known", f"of {plural(figures['n'], 'row')}"
    first, rows = named[0]
    rest = "; ".join(f"{value} {percent(n / figures['n'])}" for value, n in named[1:FREQUENT])
    note = f"of {plural(figures['n'], 'row')}" + (f"; {rest}" if rest else "")
    unknown = figures["values"].get("", 0)
    left = figures["distinct"] - bool(unknown) - FREQUENT
    more = f"; {left:,} more" if left > 0 else ""
    more += f"; {percent(unknown / figures['n'])} not known" if unknown else ""
    return title, f"{first} {percent(rows / figures['n'])}", note + more


def _spread(title: str, figures: Mapping[str, Any], noun: str) -> Fact:
    note = f"median of {plural(figures['n'], 'row')}; 5% are over {figures['p95']:,.0f}"
    return title, plural(round(figures["median"]), noun), note


def _diversity(measured: Measured) -> list[Fact]:
    """How diverse the set is, once the map was drawn; more of it stands beside the map."""
    found = of_set(measured.get("map", {}).get("figures", {}))
    facts = []
    for kind in KINDS:
        figure = found.get(kind.name)
        if kind.name in SHOWN and figure and figure["value"] is not None:
            unit = "%" if kind.scale == 100 else ""
            value = f"{number(kind.scale * figure['value'], kind.places)}{unit}"
            rests = f"n = {figure['n']:,} {figure.get('unit', 'rows')}"
            outside = judged(kind, figure["value"])[1]
            facts.append((kind.title, value, f"{(outside or kind.means).rstrip('.')}; {rests}"))
    return facts
