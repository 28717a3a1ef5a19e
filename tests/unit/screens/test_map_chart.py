"""The map as a figure, what is marked on it, and the words of diversity, without a screen."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pages.data.measurements import DIVERSITY_KINDS, classify_figure, describe_random_half
from pages.data.similarity.diversity import render_tile
from pages.data.similarity.map_chart import MAX_COLORS, MapStyle, plot_map
from pages.data.similarity.map_points import MapMarks, build_filter, is_inside, parse_marks
from pages.shared.palette import BAD, BASE, VALIDATION
from store.data.exploration import TableColumn

TOPIC = TableColumn("cluster", "category", "Topic")


def points(values: list, texts: list[str] | None = None) -> pa.Table:
    n = len(values)
    return pa.table(
        {
            "row_id": pa.array(range(n), pa.int64()),
            "x": pa.array(np.linspace(-5, 5, n), pa.float32()),
            "y": pa.array(np.zeros(n), pa.float32()),
            "topic": [f"topic, {i % 2}, word" for i in range(n)],
            "text": texts or [f"row {i}" for i in range(n)],
            "value": values,
        }
    )


def dots(figure) -> object:
    return figure.data[-1]  # behind a trace for each name of the legend


def legend(figure) -> list[str]:
    return [trace.name for trace in figure.data[:-1]]


def test_text_of_rows_is_escaped() -> None:
    hostile = '<img src=x onerror="alert(1)"><b>%{x}'
    figure = plot_map(points(["<i>a</i>"] * 2, [hostile] * 2), TOPIC, MapMarks(), MapStyle())
    hover = dots(figure).hovertext[0]
    assert "<img" not in hover
    assert "&lt;img src=x onerror=" in hover
    assert "<i>" not in hover + "".join(legend(figure))


def test_frequent_values_have_a_colour_and_the_others_are_counted() -> None:
    values = [f"v{i}" for i in range(MAX_COLORS + 3) for _ in range(MAX_COLORS + 4 - i)] + [None]
    figure = plot_map(points(values), TOPIC, MapMarks(), MapStyle())
    assert legend(figure)[:MAX_COLORS] == [f"v{i}" for i in range(MAX_COLORS)]
    assert legend(figure)[MAX_COLORS:] == ["3 others", "or none"]
    assert len(set(dots(figure).marker.color)) == MAX_COLORS + 1
    assert dots(figure).marker.color[-1] == BASE


def test_flags_have_two_colours_and_numbers_a_bar() -> None:
    flags = plot_map(points([True, False, None]), TableColumn("html", "flag", "HTML"), MapMarks(), MapStyle())
    assert list(dots(flags).marker.color) == [BAD, VALIDATION, BASE]
    numbers = plot_map(
        points([1.0, 2.0, None, 1e9] + [3.0] * 200),
        TableColumn("w", "number", "Words", "words"),
        MapMarks(),
        MapStyle(),
    )
    bar = dots(numbers).marker
    assert (bar.cmin, bar.cmax) == (3, 4)  # the one of a thousand million takes no colours
    assert bar.colorbar.title.text == "Words"
    assert not numbers.layout.showlegend


def test_what_is_marked_stays_marked_and_outlined() -> None:
    marks = MapMarks(boxes=(((-1.0, -1.0), (6.0, 1.0)),), lassos=(((-6, -1), (-6, 1), (-4, 0)),))
    figure = plot_map(points(["a"] * 11), TOPIC, marks, MapStyle())
    assert list(dots(figure).selectedpoints) == [0, *range(4, 11)]
    assert [shape.type for shape in figure.layout.shapes] == ["rect", "path"]
    assert dots(plot_map(points(["a"] * 3), TOPIC, MapMarks(), MapStyle())).selectedpoints is None


def test_a_lasso_holds_what_lies_in_it_also_where_it_is_concave() -> None:
    corners = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (2.0, 1.0), (0.0, 4.0))  # a wedge is cut from its top
    x, y = np.array([0.5, 2.0, 3.5, 2.0, 5.0]), np.array([1.0, 0.5, 1.0, 3.0, 1.0])
    assert is_inside(MapMarks(lassos=(corners,)), x, y).tolist() == [True, True, True, False, False]


def test_one_box_is_two_conditions_and_more_marks_are_rows() -> None:
    selection = {"box": [{"x": [2, -1], "y": [3, 1]}], "lasso": [{"x": [0, 1], "y": [0, 1]}]}
    marks = parse_marks(selection)  # a lasso of two corners is none
    assert marks == MapMarks(boxes=(((-1, 1), (2, 3)),))
    nothing = np.zeros(0)
    where = build_filter(marks, nothing, nothing, nothing)
    assert [(c.column, c.op, c.value) for c in where.conditions] == [
        ("x", "between", [-1, 2]),
        ("y", "between", [1, 3]),
    ]
    two = MapMarks(boxes=(*marks.boxes, ((5, 5), (6, 6))))
    rows, x, y = np.array([7, 8, 9]), np.array([0.0, 5.5, 9.0]), np.array([2.0, 5.5, 9.0])
    assert build_filter(two, rows, x, y).row_ids == [7, 8]
    assert not parse_marks({})


def test_the_sentence_on_halves_gives_what_is_kept_with_its_range() -> None:
    figures = {
        "half_loss_topics": {"value": 0.06, "low": 0.04, "high": 0.08, "n": 5000, "repeats": 8},
        "half_loss": {"value": 0.3, "low": 0.3, "high": 0.3, "n": 2000, "repeats": 8},
        "half_loss_pairs": {"value": None, "n": 0},
    }
    few = {"n": 5000, "extra": 500}  # a tenth is the edge of the healthy band
    sentence = describe_random_half(figures, few)
    assert "**92 to 96%** of the topics and **70%** of the coverage" in sentence
    assert "8 random halves of 5,000 or 2,000 rows" in sentence
    assert "each one adds something" in sentence
    assert describe_random_half({}, few) == ""


def test_rows_that_repeat_each_other_are_not_said_to_add_something_each() -> None:
    """Coverage compares with the nearest row: of a repeated row that is its repetition."""
    figures = {
        "half_loss_topics": {"value": 0.0, "low": 0.0, "high": 0.0, "n": 2211, "repeats": 8},
        "half_loss": {"value": 0.86, "low": 0.84, "high": 0.87, "n": 2000, "repeats": 8},
    }
    sentence = describe_random_half(figures, {"n": 2211, "extra": 1357})
    assert "**61%** of 2,211 rows nearly repeat an earlier row" in sentence  # as the summary says it
    assert "coverage" not in sentence
    assert "each one adds" not in sentence
    assert "coverage" not in describe_random_half(figures, None)  # nobody knows what repeats


def test_a_map_needs_webgl_only_where_it_has_many_points() -> None:
    few, many = (plot_map(points(["a"] * n), TOPIC, MapMarks(), MapStyle()) for n in (1200, 12_000))
    assert [dots(figure).type for figure in (few, many)] == ["scatter", "scattergl"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.2963, "29.63%"), (0.3, "30%"), (0.412, "41%"), (0.5049, "50.49%")]
)
def test_a_value_beyond_its_bound_is_not_written_as_the_bound(value: float, text: str) -> None:
    kind = next(kind for kind in DIVERSITY_KINDS if kind.name == "compression")
    html = render_tile(kind, {"value": value, "n": 1234, "unit": "rows"})
    assert f"{text}<span" in html


@pytest.mark.parametrize(
    ("name", "value", "state"),
    [
        ("compression", 0.2, "warn"),
        ("compression", 0.4, "good"),
        ("top_template", 0.3, "warn"),
        ("vendi", 9, ""),
    ],
)
def test_figures_are_judged_by_their_band(name: str, value: float, state: str) -> None:
    kind = next(kind for kind in DIVERSITY_KINDS if kind.name == name)
    assert classify_figure(kind, value)[0] == state
    html = render_tile(kind, {"value": value, "n": 1234, "unit": "rows", "template": "<b>Write"})
    assert "n = 1,234 rows" in html
    assert "<b>Write" not in html
    assert "too few rows" in render_tile(kind, {"value": None, "n": 1})


def test_chosen_values_have_the_colours_and_all_others_are_grey() -> None:
    values = [f"v{i}" for i in range(MAX_COLORS + 3) for _ in range(MAX_COLORS + 4 - i)]
    rare = f"v{MAX_COLORS + 2}"
    figure = plot_map(points(values), TOPIC, MapMarks(), MapStyle("cluster", (rare,)))
    assert legend(figure) == [rare, f"{MAX_COLORS + 2} others"]
    colours = dots(figure).marker.color
    assert {value for value, colour in zip(values, colours, strict=True) if colour != BASE} == {rare}


def test_names_of_topics_have_room_on_a_phone() -> None:
    table = points(["a"] * 40).set_column(3, "topic", [[f"topic {i // 4}" for i in range(40)]])
    places = sorted(note.x for note in plot_map(table, TOPIC, MapMarks(), MapStyle()).layout.annotations)
    assert len(places) == 3  # of ten in one line, over a width of 10
    assert np.diff(places).min() > 3.6


def test_what_is_searched_for_stands_out_and_a_point_names_its_row() -> None:
    figure = plot_map(
        points(["a"] * 5), TOPIC, MapMarks(), MapStyle("cluster", search="x"), np.array([3, 1, 99])
    )
    assert list(dots(figure).selectedpoints) == [1, 3]
    assert list(dots(figure).customdata) == [0, 1, 2, 3, 4]
    nothing = plot_map(
        points(["a"] * 5), TOPIC, MapMarks(), MapStyle("cluster", search="x"), np.array([], np.int64)
    )
    assert list(dots(nothing).selectedpoints) == []
