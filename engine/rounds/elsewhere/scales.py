"""The points of scores that were given elsewhere: of each criterion its values in their order."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from store.config.judging.round_config import MAX_POINTS, MIN_POINTS
from store.contract.errors import DataError
from store.documents.rating.rating_desk import RatingCriterion

MAX_VALUES = 1_000  # that are remembered to be counted


class Scales:
    """The values that each criterion was given."""

    def __init__(self) -> None:
        self._values: dict[str, set[float]] = {}
        self._points: dict[str, dict[float, int]] = {}

    def add(self, scores: Mapping[str, float]) -> None:
        """Take in one rating."""
        for name, value in scores.items():
            values = self._values.setdefault(name, set())
            if len(values) <= MAX_VALUES:
                values.add(value)

    def criteria(self) -> list[RatingCriterion]:
        """A criterion of each column, its points from worst to best. Raises DataError (values) where one has
        too many points, or a single one."""
        self._points = {name: self._of(name, values) for name, values in self._values.items()}
        return [
            {"name": name, "question": "", "anchors": [f"{value:g}" for value in points]}
            for name, points in self._points.items()
        ]

    def points_of(self, scores: Mapping[str, float]) -> dict[str, int]:
        """As a rubric has them, after `criteria`."""
        return {name: self._points[name][value] for name, value in scores.items()}

    def _of(self, name: str, values: set[float]) -> dict[float, int]:
        """Value -> point, from 1. Whole numbers from 0 or 1 have the points that nobody gave, too."""
        top = max(values)
        scale = sorted(values)
        if all(value % 1 == 0 for value in values) and min(values) >= 0:
            start = 0 if 0 in values else 1
            if MIN_POINTS <= top - start + 1 <= MAX_POINTS:
                scale = [float(value) for value in range(start, int(top) + 1)]
        if len(scale) > MAX_POINTS:
            lowest = ", ".join(f"{value:g}" for value in scale[:4])
            same = f"--value {scale[0]:g}={scale[1]:g}"
            raise DataError(
                f"{name} has {len(scale):,} values ({lowest} …), and a scale {MAX_POINTS} points at most.",
                fix=f"Say which values are one point, such as {same}, or round them in the file.",
                field="values",
            )
        if len(scale) < MIN_POINTS:
            raise DataError(
                f"{name} is {scale[0]:g} in all rows: a scale has {MIN_POINTS} points at least.",
                fix=f"Leave it out (--ignore {shlex.quote(name)}), or map another one.",
                field="columns",
            )
        return {value: point for point, value in enumerate(scale, 1)}
