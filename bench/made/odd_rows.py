"""Rows with the columns of a format, named as in real files, and values of every JSON type."""

from __future__ import annotations

import random
from typing import Any

from engine.data.readers.file_rows import ALIASES

COUNT = 30
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
VALUES: list[Any] = [
    *(
        "a",
        "b",
        "",
        " ",
        "A",
        "1",
        "true",
        "tie",
        "train",
        "\ud800",
        "x" * 3000,
        "[1, 2]",
        '["a", "b"]',
        "{'a': 1}",
    ),
    *(0, 1, 2, -1, 1.5, 1e300, True, False, None, 10**30),
    *(
        [],
        ["a", "b"],
        ["a", 1, None],
        [[]],
        [{"text": "a", "label": "A"}, {"text": "b"}],
        [None],
        TURNS,
        TURNS[:1],
    ),
    *({}, {"text": ["a", "b"], "label": ["A", "B"]}, {"text": "t"}, {"a": {"b": {"c": {"d": {"e": "f"}}}}}),
    *([{"role": None, "content": 1}], [{"from": "x", "value": []}], [{"role": "user"}]),
]
EXTRA = (
    "ans0",
    "ans1",
    "output_1",
    "output_2",
    "annotator1",
    "split",
    "label",
    "file",
    "is_x",
    "a.b",
    "tools",
)


def odd_rows(rng: random.Random, format: str) -> list[dict[str, Any]]:
    """Make thirty rows. Half of a column's values are of one kind, so that formats are detected."""
    roles = ALIASES[format] or ALIASES["marked"] | {"label": ("label",)}
    columns = [rng.choice(names) for names in roles.values()] + rng.sample(EXTRA, 3)
    usual = {column: rng.choice(VALUES) for column in columns}
    rows = []
    for _ in range(COUNT):
        row = {name: value if rng.random() < 0.5 else rng.choice(VALUES) for name, value in usual.items()}
        for name in rng.sample(columns, rng.randint(0, 2)):
            row.pop(name, None)
        rows.append(row)
    return rows
