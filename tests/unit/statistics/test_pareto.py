"""The front, what is like it, and methods at equal gain."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from engine.evaluation.comparison.pareto import (
    RunPoint,
    compare_sweeps,
    compute_front,
    compute_standard_error,
    interpolate_at_gain,
)
from engine.evaluation.statistics.intervals import Interval


def run(
    name: str, gain: float, forgetting: float, *, half: float = 0.02, group: str = "lora", setting: float = 0
) -> RunPoint:
    around = [{"value": v, "low": v - half, "high": v + half} for v in (gain, forgetting)]
    return {"run": name, "group": group, "setting": setting, "gain": around[0], "forgetting": around[1]}


def test_the_front_by_hand() -> None:
    runs = [
        run("a", 0.2, 0.05),
        run("b", 0.5, 0.2),
        run("c", 0.4, 0.4),
        run("d", 0.49, 0.21),
        run("e", 0.6, 0.9),
    ]
    by_run = {f["run"]: f for f in compute_front(runs)}
    assert [name for name, f in by_run.items() if f["status"] == "front"] == ["a", "b", "e"]
    c, d = by_run["c"], by_run["d"]
    assert (c["status"], c["dominated_by"], c["alike"]) == ("dominated", ["b"], [])
    assert (d["status"], d["dominated_by"], d["alike"]) == ("alike", ["b"], ["b"])


def test_told_apart_at_the_independent_level() -> None:
    # 0.0277 = 1.96 times the error of a difference of two estimates with half-widths of 0.02 each
    near, far = run("near", 0.5, 0.2277), run("far", 0.5, 0.2293)
    statuses = {f["run"]: f["status"] for f in compute_front([run("best", 0.5, 0.2), near, far])}
    assert statuses["near"] == "alike"
    assert 0.02 * math.sqrt(2) == pytest.approx(0.02828, abs=1e-4)
    assert {f["run"]: f["status"] for f in compute_front([run("best", 0.5, 0.2), far])}["far"] == "dominated"


def test_equal_runs_are_both_on_the_front_and_runs_without_figures_are_unknown() -> None:
    broken = run("broken", 0.1, 0.1)
    broken["forgetting"] = {"value": None, "low": None, "high": None}
    single = run("single", 0.4, 0.5)
    single["gain"] = {"value": 0.4, "low": None, "high": None}
    statuses = {
        f["run"]: f["status"] for f in compute_front([run("a", 0.5, 0.2), run("b", 0.5, 0.2), broken, single])
    }
    assert statuses == {"a": "front", "b": "front", "broken": "unknown", "single": "dominated"}
    assert compute_front([]) == []


def sweep(group: str, points: list[tuple[float, float]], half: float = 0.01) -> list[RunPoint]:
    return [run(f"{group}{i}", g, f, half=half, group=group, setting=i) for i, (g, f) in enumerate(points)]


def test_rounding_leads_past_no_run() -> None:
    """Of the gains that are compared the last may, as a sum of parts, lie a hair above the highest run's."""
    random = np.random.default_rng(0)
    for _ in range(300):
        sweeps = [sweep(group, list(zip(random.random(3), random.random(3), strict=True))) for group in "ab"]
        comparison = compare_sweeps(*sweeps)
        assert comparison["state"] in {"first", "second", "alike", "mixed", "no_overlap"}
        if comparison["overlap"]:
            gains = [point["gain"] for point in comparison["points"]]
            assert [gains[0], gains[-1]] == comparison["overlap"]
    assert len(compare_sweeps(sweeps[0], sweeps[0])["points"]) == 5


def test_forgetting_between_two_runs() -> None:
    line = sweep("lora", [(0.2, 0.1), (0.6, 0.3)])
    between = interpolate_at_gain(line, 0.3)
    assert between.value == pytest.approx(0.15)
    error = 0.01 / 1.959964
    assert compute_standard_error(between.parts) == pytest.approx(
        math.hypot(0.75, 0.25) * math.hypot(error, 0.5 * error)
    )
    assert interpolate_at_gain(line, 0.6).value == pytest.approx(0.3)
    assert interpolate_at_gain(line, 0.61) is None
    # past the best learning rate the gain falls again while more is forgotten: the least counts
    bent = sweep("lora", [(0.2, 0.1), (0.6, 0.3), (0.3, 0.9)])
    assert interpolate_at_gain(bent, 0.4).value == pytest.approx(0.2)
    # the steeper side
    assert compute_standard_error(interpolate_at_gain(bent, 0.6).parts) == pytest.approx(
        math.hypot(error, 2 * error)
    )


def test_the_error_along_a_line_is_that_of_a_simulation() -> None:
    random, seen = np.random.default_rng(0), []
    for _ in range(4000):
        noise = random.normal(0, 0.01 / 1.96, 4)
        line = sweep("x", [(0.2 + noise[0], 0.1 + noise[1]), (0.6 + noise[2], 0.5 + noise[3])])
        seen.append(interpolate_at_gain(line, 0.35).value)
    line = interpolate_at_gain(sweep("x", [(0.2, 0.1), (0.6, 0.5)]), 0.35)
    assert compute_standard_error(line.parts) == pytest.approx(np.std(seen), rel=0.05)


def test_runs_on_the_same_rows_are_paired_at_equal_gain() -> None:
    """Two runs each at gains of 0.2 and 0.6, slopes 0.5, which forget 0.02 apart: at 0.2 that is a difference
    of two runs, at 0.4 one of the means of two."""
    lora = sweep("LoRA", [(0.2, 0.1), (0.6, 0.3)], 0.05)
    full = sweep("full", [(0.2, 0.12), (0.6, 0.32)], 0.05)
    halves = {"gain": 0.004, "forgetting": 0.003}

    def pair(first: str, second: str, axis: str) -> Interval:
        return Interval(0.0, -halves[axis], halves[axis], 100)

    assert compare_sweeps(lora, full)["state"] == "alike"
    comparison = compare_sweeps(lora, full, pair=pair)
    assert comparison["state"] == "first"
    by_gain = {round(point["gain"], 3): point["difference"] for point in comparison["points"]}
    wider = 2.575829 / 1.959964  # five gains are looked at
    of_two = wider * math.hypot(0.003, 0.5 * 0.004)
    assert by_gain[0.2]["high"] - by_gain[0.2]["value"] == pytest.approx(of_two)
    assert by_gain[0.4]["high"] - by_gain[0.4]["value"] == pytest.approx(of_two / math.sqrt(2))
    some = compare_sweeps(
        lora, full, pair=lambda first, second, axis: pair(first, second, axis) if "0" in first else None
    )
    assert some["points"][2] == compare_sweeps(lora, full)["points"][2]  # not every two of them were paired


def test_less_forgotten_at_equal_gain() -> None:
    lora = sweep("LoRA", [(0.2, 0.05), (0.5, 0.15), (0.7, 0.30)])
    full = sweep("full", [(0.3, 0.20), (0.6, 0.45)])
    comparison = compare_sweeps(lora, full)
    assert comparison["overlap"] == [0.3, 0.6]
    assert [round(p["gain"], 3) for p in comparison["points"]] == [0.3, 0.375, 0.45, 0.525, 0.6]
    assert comparison["state"] == "first"
    assert "LoRA forgets less than full at every common gain, by up to 0.2" in comparison["sentence"]
    assert compare_sweeps(full, lora)["state"] == "second"
    assert compare_sweeps(full, lora)["sentence"] == comparison["sentence"]
    json.dumps(comparison, allow_nan=False)


def test_no_overlap_is_said() -> None:
    comparison = compare_sweeps(
        sweep("LoRA", [(0.1, 0.1), (0.2, 0.2)]), sweep("full", [(0.3, 0.1), (0.4, 0.2)])
    )
    assert (comparison["state"], comparison["overlap"], comparison["points"]) == ("no_overlap", None, [])
    assert "LoRA from 0.10 to 0.20; full from 0.30 to 0.40" in comparison["sentence"]
    assert compare_sweeps([], sweep("full", [(0.3, 0.1)]))["state"] == "no_overlap"


def test_a_single_run_is_compared_at_its_own_gain() -> None:
    comparison = compare_sweeps(sweep("LoRA", [(0.4, 0.1)]), sweep("full", [(0.3, 0.4), (0.5, 0.5)]))
    assert [p["gain"] for p in comparison["points"]] == [0.4]
    assert comparison["points"][0]["difference"]["value"] == pytest.approx(0.1 - 0.45)
    assert comparison["state"] == "first"


def test_the_same_method_twice_is_rarely_told_apart() -> None:
    random, called = np.random.default_rng(1), 0
    for _ in range(500):
        pair = []
        for name in ("one", "two"):
            noise = random.normal(0, 0.01 / 1.96, (3, 2))
            points = [
                (g + a, f + b)
                for (g, f), (a, b) in zip([(0.2, 0.1), (0.4, 0.2), (0.6, 0.5)], noise, strict=True)
            ]
            pair.append(sweep(name, points))
        called += compare_sweeps(*pair)["state"] != "alike"
    assert called / 500 <= 0.05


def test_crossing_sweeps_are_mixed() -> None:
    comparison = compare_sweeps(sweep("a", [(0.2, 0.1), (0.6, 0.9)]), sweep("b", [(0.2, 0.5), (0.6, 0.5)]))
    assert comparison["state"] == "mixed"
    assert "At some gains a forgets less, at others b" in comparison["sentence"]


def test_paired_differences_decide_where_there_are_any() -> None:
    best, other = run("best", 0.8, 0.1, half=0.2), run("other", 0.59, 0.1, half=0.2)
    apart, same = Interval(-0.21, -0.25, -0.17, 100), Interval(0.0, 0.0, 0.0, 100)
    assert compute_front([best, other])[1]["status"] == "alike"
    placed = compute_front([best, other], lambda first, second, axis: apart if axis == "gain" else same)
    assert placed[1]["status"] == "dominated"
    surely = compute_front(
        [run("best", 0.8, 0.1, half=0.1), run("other", 0.59, 0.1, half=0.1)], lambda first, second, axis: same
    )
    assert surely[1]["status"] == "alike"  # rows that differ by chance both ways
