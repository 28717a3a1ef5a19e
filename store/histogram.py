"""How the values of a column are spread over the rows, and over those of them that a filter means.

Numbers are counted between edges that people can read: even steps, or 1-2-5 steps where a long tail would
press everything into the first bar. Everything else is counted by value, the most frequent first, and what
is not shown is counted too. Several columns are counted in one reading of the rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.explore import Column, Rows
from store.filters import Condition, Filter, quoted
from store.records import records
from store.signals import GROUP_OF

if TYPE_CHECKING:
    from store.database import Queryable

TOP = 20  # values that are shown of a category
BINS = 24  # bars of a number, about
TAIL = 5.0  # times the 95th percentile: from there on steps grow


@dataclass(frozen=True)
class Bar:
    """Rows with one value, or with one of [low, high). `rows` of all, `hits` of those that a filter means."""

    rows: int
    hits: int
    value: Any = None
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Histogram:
    """`bars` by place (numbers) or by frequency; `others`: rows and hits of the `others_values` values that
    are not shown; `missing`: rows and hits without a value."""

    column: Column
    bars: tuple[Bar, ...]
    others: tuple[int, int] = (0, 0)
    others_values: int = 0
    missing: tuple[int, int] = (0, 0)

    @property
    def ordered(self) -> bool:
        """Whether the bars are ranges of a number."""
        return self.column.type == "number"

    def condition(self, bar: Bar) -> Condition:
        """What a click on a bar means."""
        if self.ordered:
            ends = [int(x) if x.is_integer() else x for x in (bar.low, bar.high)]
            return Condition(column=self.column.name, op="between", value=ends)
        return Condition(column=self.column.name, op="is", value=bar.value)


def facets(db: Queryable, rows: Rows, names: Sequence[str], where: Filter) -> dict[str, Histogram]:
    """The histograms of several columns. Raises ConfigError."""
    edges = spans(db, rows, [name for name in names if rows.known[name].type == "number"])
    relation, files = rows.relation([*names, *rows.needed(where)])
    condition, params = rows.condition(where)
    kept = max(TOP, 4 * BINS) + 1  # groups of a column that are needed: every bar of a number is
    bins = [
        f"{_bin(quoted(name), edges[name])} AS b{place}"
        if name in edges
        else f"{quoted(name)}::VARCHAR AS b{place}"
        for place, name in enumerate(names)
    ]
    listed = [f"b{place}" for place in range(len(names))]
    sql = f"""
        WITH binned AS (SELECT {", ".join(bins)}, coalesce({condition}, false) AS hit FROM ({relation})),
        counted AS (
            SELECT grouping({", ".join(listed)}) AS mask, {", ".join(listed)},
                   count(*) AS n, count(*) FILTER (hit) AS hits
            FROM binned GROUP BY GROUPING SETS ({", ".join(f"({name})" for name in listed)})
        )
        SELECT *, row_number() OVER place AS place,
               sum(n) OVER (PARTITION BY mask) AS all_n, sum(hits) OVER (PARTITION BY mask) AS all_hits,
               count(*) OVER (PARTITION BY mask) AS distinct_n
        FROM counted
        WINDOW place AS (PARTITION BY mask ORDER BY n DESC, {", ".join(listed)})
        QUALIFY place <= {kept} OR coalesce({", ".join(f"{name}::VARCHAR" for name in listed)}) IS NULL
    """
    found = records(db.query(sql, [*params, *files]))
    return {
        name: _histogram(
            rows.known[name], [row for row in found if _is_of(row, place, len(names))], place, edges
        )
        for place, name in enumerate(names)
    }


def values(db: Queryable, rows: Rows, name: str) -> list[Any]:
    """The most frequent values of a column, to choose from."""
    return [bar.value for bar in facets(db, rows, [name], Filter())[name].bars]


def _is_of(row: Mapping[str, Any], place: int, count: int) -> bool:
    """Whether a row of the answer counts the column at `place`: its bit alone is 0 in the mask."""
    return int(row["mask"]) == (1 << count) - 1 - (1 << (count - 1 - place))


def _histogram(
    column: Column, found: list[dict[str, Any]], place: int, edges: Mapping[str, list[float]]
) -> Histogram:
    missing = next(((r["n"], r["hits"]) for r in found if r[f"b{place}"] is None), (0, 0))
    known = [row for row in found if row[f"b{place}"] is not None]
    if column.name in edges:
        counts = {int(row[f"b{place}"]): row for row in known}
        limits = edges[column.name]
        bars = [
            Bar(counts[i]["n"], counts[i]["hits"], None, low, high)
            if i in counts
            else Bar(0, 0, None, low, high)
            for i, (low, high) in enumerate(itertools.pairwise(limits))
        ]
        return Histogram(column, tuple(bars), missing=missing)
    shown = sorted(known, key=lambda row: (-row["n"], row[f"b{place}"]))[:TOP]
    all_n, all_hits, distinct = (
        (int(found[0][k]) for k in ("all_n", "all_hits", "distinct_n")) if found else (0,) * 3
    )
    others = (
        all_n - missing[0] - sum(row["n"] for row in shown),
        all_hits - missing[1] - sum(row["hits"] for row in shown),
    )
    bars = [Bar(row["n"], row["hits"], _value(column, row[f"b{place}"])) for row in shown]
    return Histogram(column, tuple(bars), others, distinct - len(shown) - (missing[0] > 0), missing)


def _value(column: Column, text: str) -> Any:
    if column.type == "flag":
        return text == "true"
    return int(text) if column.type == "group" else text


def spans(db: Queryable, rows: Rows, names: Sequence[str]) -> dict[str, list[float]]:
    """Edges for each of the number columns, from what was measured already or else from the rows."""
    found: dict[str, tuple[float, float, float]] = {}
    for name in names:
        if figures := _figures(rows, name):
            found[name] = figures
    if asked := [name for name in names if name not in found]:
        relation, files = rows.relation(asked)
        parts = [f"[min({c}), quantile_cont({c}, 0.95), max({c})]::DOUBLE[]" for c in map(quoted, asked)]
        row = db.query(f"SELECT {', '.join(parts)} FROM ({relation})", files).to_pylist()[0]
        for name, numbers in zip(asked, row.values(), strict=True):
            low, high, top = (0.0 if x is None or not math.isfinite(x) else x for x in numbers)
            found[name] = (low, high, top)
    whole = {name: rows.known[name].unit not in ("share", "ratio", "nats a token") for name in names}
    return {name: nice_edges(*found[name], whole=whole[name]) for name in names}


def _figures(rows: Rows, name: str) -> tuple[float, float, float] | None:
    """min, 95th percentile and max of a column where they are known without a look at the rows."""
    if name == "row_id":
        last = max(0.0, float(rows.dataset["row_count"]) - 1)
        return 0.0, last, last
    if name in GROUP_OF:
        known = rows.measured[GROUP_OF[name]]["figures"].get(name, {})
    else:
        known = rows.dataset["stats"].get(name, {}) if name == "turns" else {}
    numbers = [known.get(part) for part in ("min", "p95", "max")]
    if any(x is None or isinstance(x, str) or not math.isfinite(x) for x in numbers):
        return None
    low, high, top = (float(x) for x in numbers)
    return low, high, top


def nice_edges(low: float, high: float, top: float, *, whole: bool = False, bins: int = BINS) -> list[float]:
    """Edges of bars from `low` to beyond `top`, rising; `high` is the 95th percentile.

    `whole`: the numbers may be whole ones, and then no step is below 1.
    """
    reach = top - low
    whole = whole and all(float(x).is_integer() for x in (low, top))
    if reach <= 0:
        return [low, low + (1.0 if whole or low.is_integer() else max(abs(low) * 0.1, 1e-6))]
    if top > TAIL * max(high, 1e-12) and low >= 0 and top > 4:
        return _growing(low, top)
    step = _nice(reach / bins)
    step = max(1.0, step) if whole else step
    first = math.floor(low / step)
    last = math.floor(top / step) + 1
    return [_round(place * step) for place in range(first, last + 1)]


def _growing(low: float, top: float) -> list[float]:
    """0, 1, 2, 5, 10, 20, 50 … from the step below `low` to the one beyond `top`."""
    edges, power = [0.0], 0
    while edges[-1] <= top:
        edges += [digit * 10.0**power for digit in (1, 2, 5)]
        power += 1
    start = max(i for i, edge in enumerate(edges) if edge <= low)
    end = min(i for i, edge in enumerate(edges) if edge > top)
    return edges[start : end + 1]


def _nice(step: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= step * (1 - 1e-9))


def _round(value: float) -> float:
    return float(f"{value:.12g}")


def _bin(name: str, edges: list[float]) -> str:
    """Which of the bars a number falls into, as SQL; null where it is none. Edges are ours, so they are
    written out."""
    cases = " ".join(f"WHEN {name}::DOUBLE < {edge!r} THEN {i}" for i, edge in enumerate(edges[1:-1]))
    known = f"{name} IS NULL OR isnan({name}::DOUBLE)"
    return f"CASE WHEN {known} THEN NULL {cases} ELSE {len(edges) - 2} END"
