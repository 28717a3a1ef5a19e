"""Histograms of columns over all rows and over the rows that match a filter.

Numbers are binned at readable edges: even steps, or 1-2-5 steps if a long tail would squeeze everything into
the first bar. Other columns are counted by value, the most frequent first; values that aren't shown are
counted together. Several columns are counted in one pass over the rows.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.core.row_schemas import SignalFigure, SizeDistribution
from store.core.schemas import JsonObject
from store.data.exploration import DatasetTable, TableColumn
from store.data.filters import Condition, Filter, check_column, quote_identifier
from store.data.signals import GROUP_OF
from store.db.named_query import named_query
from store.db.records import read_records

if TYPE_CHECKING:
    from store.db.database import Queryable

TOP = 20  # values shown for a category
BINS = 24  # approximate number of bars for a number
FEW = 20_000  # maximum distinct values of a number that are counted individually
TAIL = 5.0  # multiple of the 95th percentile beyond which 1-2-5 steps are used


@dataclass(frozen=True)
class Bar:
    """Bar of the rows with one value, or with values in [low, high).

    `rows`: count over all rows. `hits`: count over the rows that match the filter.
    """

    rows: int
    hits: int
    value: Any = None
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Histogram:
    """Histogram of a column.

    `bars`: in order of value (numbers) or of frequency. `others`: rows and hits of the `others_values` values
    that aren't shown. `missing`: rows and hits without a value.
    """

    column: TableColumn
    bars: tuple[Bar, ...]
    others: tuple[int, int] = (0, 0)
    others_values: int = 0
    missing: tuple[int, int] = (0, 0)

    @property
    def ordered(self) -> bool:
        """Whether the bars are numeric ranges."""
        return self.column.type == "number"

    def condition(self, bar: Bar) -> Condition:
        """Return the condition that a click on a bar adds."""
        if self.ordered:
            ends = [int(x) if x.is_integer() else x for x in (bar.low, bar.high)]
            return Condition(column=self.column.name, op="between", value=ends)
        return Condition(column=self.column.name, op="is", value=bar.value)


@dataclass(frozen=True)
class _Counts:
    """Counts of a column.

    `values`: (value or bar, rows, hits) of the most frequent values. `rows`, `hits` and `distinct` cover all
    values, a missing one included.
    """

    values: list[tuple[Any, int, int]]
    rows: int
    hits: int
    distinct: int

    @property
    def present(self) -> list[tuple[Any, int, int]]:
        return [entry for entry in self.values if entry[0] is not None]

    @property
    def missing(self) -> tuple[int, int]:
        return next(((n, hits) for value, n, hits in self.values if value is None), (0, 0))


@named_query
def facets(db: Queryable, rows: DatasetTable, names: Sequence[str], where: Filter) -> dict[str, Histogram]:
    """Return the histograms of several columns. Raises ConfigError.

    If the range of a number isn't known yet, its values are counted first. If there are few, the bars are
    built from them; otherwise the range is queried and the rows are read once more.
    """
    for name in names:
        check_column(name, rows.columns)
    numbers = [name for name in names if rows.columns[name].type == "number"]
    edges = {
        name: _compute_edges(rows, name, span) for name in numbers if (span := _find_known_span(rows, name))
    }
    counts = _count(db, rows, names, where, edges)
    if many := [name for name in numbers if name not in edges and counts[name].distinct > FEW]:
        edges |= _query_edges(db, rows, many)
        counts |= _count(db, rows, many, where, edges)
    histograms = {}
    for name in names:
        column, counted = rows.columns[name], counts[name]
        if name in edges:
            bars = {int(bar): (n, hits) for bar, n, hits in counted.present}
            histograms[name] = _build_bar_histogram(column, bars, edges[name], counted.missing)
        elif name in numbers:
            histograms[name] = _build_number_histogram(rows, column, counted)
        else:
            histograms[name] = _build_value_histogram(column, counted)
    return histograms


def _count(
    db: Queryable, rows: DatasetTable, names: Sequence[str], where: Filter, edges: Mapping[str, list[float]]
) -> dict[str, _Counts]:
    """Count rows and hits of each column by bar (if it has `edges`) or by value, in one pass."""
    relation, files = rows.relation([*names, *rows.needed(where)])
    condition, params = rows.condition(where)
    bins = [_build_key_sql(rows.columns[name], edges.get(name)) for name in names]
    listed = [f"b{place}" for place in range(len(names))]
    kept = " ".join(
        f"WHEN {_compute_grouping_mask(place, len(names))} THEN {_count_kept_groups(rows.columns[name])}"
        for place, name in enumerate(names)
    )
    sql = f"""
        WITH binned AS (
            SELECT {", ".join(f"{key} AS {name}" for key, name in zip(bins, listed, strict=True))},
                   coalesce({condition}, false) AS hit FROM ({relation})
        ),
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
        QUALIFY place <= CASE mask {kept} END
            OR coalesce({", ".join(f"{name}::VARCHAR" for name in listed)}) IS NULL
    """
    groups = read_records(db.query(sql, [*params, *files]), JsonObject)
    counts = {}
    for place, name in enumerate(names):
        own = [row for row in groups if int(row["mask"]) == _compute_grouping_mask(place, len(names))]
        totals = (int(own[0][k]) for k in ("all_n", "all_hits", "distinct_n")) if own else (0, 0, 0)
        counts[name] = _Counts([(row[f"b{place}"], row["n"], row["hits"]) for row in own], *totals)
    return counts


def _build_key_sql(column: TableColumn, edges: list[float] | None) -> str:
    """Return the SQL of a column's grouping key: the bar of a number, or the value."""
    if edges:
        return _build_bin_sql(quote_identifier(column.name), edges)
    return f"{quote_identifier(column.name)}::{'DOUBLE' if column.type == 'number' else 'VARCHAR'}"


def _count_kept_groups(column: TableColumn) -> int:
    """Return how many groups of a column to keep: for a number every bar or up to `FEW` values."""
    return max(FEW, 4 * BINS) + 1 if column.type == "number" else TOP + 1


def _compute_grouping_mask(place: int, count: int) -> int:
    """Return the grouping() value of the rows that count the column at `place`: only its bit is 0."""
    return (1 << count) - 1 - (1 << (count - 1 - place))


def _build_value_histogram(column: TableColumn, counted: _Counts) -> Histogram:
    frequent = sorted(counted.present, key=lambda entry: (-entry[1], entry[0]))[:TOP]
    missing = counted.missing
    others = (
        counted.rows - missing[0] - sum(n for _, n, _ in frequent),
        counted.hits - missing[1] - sum(hits for _, _, hits in frequent),
    )
    bars = tuple(Bar(n, hits, _convert_value(column, value)) for value, n, hits in frequent)
    return Histogram(column, bars, others, counted.distinct - len(frequent) - (missing[0] > 0), missing)


def _build_number_histogram(rows: DatasetTable, column: TableColumn, counted: _Counts) -> Histogram:
    """Build the bars of a number whose values were all counted."""
    finite = sorted((value, n, hits) for value, n, hits in counted.present if math.isfinite(value))
    odd = [(n, hits) for value, n, hits in counted.present if not math.isfinite(value)]
    missing = tuple(x + sum(entry[i] for entry in odd) for i, x in enumerate(counted.missing))
    if not finite:
        return _build_bar_histogram(column, {}, [0.0, 1.0], missing)
    reached, goal = 0, 0.95 * sum(n for _, n, _ in finite)
    high = next(value for value, n, _ in finite if (reached := reached + n) >= goal)
    edges = _compute_edges(rows, column.name, (finite[0][0], high, finite[-1][0]))
    bars: dict[int, tuple[int, int]] = {}
    for value, n, hits in finite:
        place = min(bisect.bisect_right(edges, value) - 1, len(edges) - 2)
        before = bars.get(place, (0, 0))
        bars[place] = (before[0] + n, before[1] + hits)
    return _build_bar_histogram(column, bars, edges, missing)


def _build_bar_histogram(
    column: TableColumn, counted: Mapping[int, tuple[int, int]], edges: list[float], missing: tuple[int, ...]
) -> Histogram:
    bars = tuple(
        Bar(*counted.get(place, (0, 0)), None, low, high)
        for place, (low, high) in enumerate(itertools.pairwise(edges))
    )
    return Histogram(column, bars, missing=(missing[0], missing[1]))


def _convert_value(column: TableColumn, text: str) -> Any:
    if column.type == "flag":
        return text == "true"
    return int(text) if column.type == "group" else text


def _query_edges(db: Queryable, rows: DatasetTable, names: Sequence[str]) -> dict[str, list[float]]:
    """Return the bar edges of numeric columns whose range hasn't been measured yet."""
    relation, files = rows.relation(names)
    parts = []
    for c in map(quote_identifier, names):
        finite = f"FILTER (isfinite({c}::DOUBLE))"
        parts.append(f"[min({c}) {finite}, quantile_cont({c}, 0.95) {finite}, max({c}) {finite}]::DOUBLE[]")
    row = db.query(f"SELECT {', '.join(parts)} FROM ({relation})", files).to_pylist()[0]
    return {
        name: _compute_edges(rows, name, (numbers[0] or 0.0, numbers[1] or 0.0, numbers[2] or 0.0))
        for name, numbers in zip(names, row.values(), strict=True)
    }


def _compute_edges(rows: DatasetTable, name: str, span: tuple[float, float, float]) -> list[float]:
    return compute_nice_edges(
        *span, whole=rows.columns[name].unit not in ("share", "ratio", "nats per token")
    )


def _find_known_span(rows: DatasetTable, name: str) -> tuple[float, float, float] | None:
    """Return min, 95th percentile and max of a column if they are known without reading the rows."""
    if name == "row_id":
        last = max(0.0, float(rows.dataset.row_count) - 1)
        return 0.0, last, last
    spread: SignalFigure | SizeDistribution | None = None
    if name in GROUP_OF:
        spread = rows.measured[GROUP_OF[name]].figures.get(name)
    elif name == "turns":
        spread = rows.dataset.stats.get("turns")
    if spread is None or "p95" not in spread:
        return None
    numbers = [spread["min"], spread["p95"], spread["max"]]
    low, high, top = (math.nan if x is None or isinstance(x, str) else float(x) for x in numbers)
    return (low, high, top) if all(map(math.isfinite, (low, high, top))) else None


def compute_nice_edges(
    low: float, high: float, top: float, *, whole: bool = False, bins: int = BINS
) -> list[float]:
    """Return increasing bar edges from `low` to beyond `top`; `high` is the 95th percentile.

    `whole`: the numbers may be integers, in which case no step is below 1.
    """
    reach = top - low
    whole = whole and all(float(x).is_integer() for x in (low, top))
    if reach <= 0:
        return [low, low + (1.0 if whole or low.is_integer() else max(abs(low) * 0.1, 1e-6))]
    if top > TAIL * max(high, 1e-12) and low >= 0 and top > 4:
        return _grow_edges(low, top)
    step = _round_up_nicely(reach / bins)
    step = max(1.0, step) if whole else step
    first = math.floor(low / step)
    last = math.floor(top / step) + 1
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _grow_edges(low: float, top: float) -> list[float]:
    """Return the edges 0, 1, 2, 5, 10, 20, 50 … from the last up to `low` to the first beyond `top`."""
    edges, power = [0.0], 0
    while edges[-1] <= top:
        edges += [digit * 10.0**power for digit in (1, 2, 5)]
        power += 1
    start = max(i for i, edge in enumerate(edges) if edge <= low)
    end = min(i for i, edge in enumerate(edges) if edge > top)
    return edges[start : end + 1]


def _round_up_nicely(step: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5, 10 times a power of ten that is at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= step * (1 - 1e-9))


def _build_bin_sql(name: str, edges: list[float]) -> str:
    """Return the SQL for the bar that a number falls into; null if it has no value.

    The edges are computed here, so they are written into the SQL as literals.
    """
    cases = " ".join(f"WHEN {name}::DOUBLE < {edge!r} THEN {i}" for i, edge in enumerate(edges[1:-1]))
    missing = f"{name} IS NULL OR NOT isfinite({name}::DOUBLE)"
    return f"CASE WHEN {missing} THEN NULL {cases} ELSE {len(edges) - 2} END"
