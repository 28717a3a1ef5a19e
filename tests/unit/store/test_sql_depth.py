"""How long and how deep a statement may be, told without a parser."""

from __future__ import annotations

import pytest

from store.db.sql_guard import find_depth_problem, find_length_problem


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT " + "a." * 16 + "a", "more than 16 parts"),
        ("SELECT " + "a\n . /* x */ " * 16 + "a", "more than 16 parts"),
        ('SELECT "x"' + '."y"' * 16, "more than 16 parts"),
        (" union all ".join(["select 1"] * 202), "more than 200 UNION"),
        ("SELECT " + "(" * 201 + "1" + ")" * 201, "deeper than 200"),
        ("SELECT " + "[" * 201 + "1" + "]" * 201, "deeper than 200"),
        ("SELECT " + "CASE WHEN true THEN " * 201 + "1" + " END" * 201, "deeper than 200"),
    ],
)
def test_too_deep(sql: str, reason: str) -> None:
    assert reason in find_depth_problem(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a.b.c.d, 1.5, 2.5.x FROM x.y.z",
        "SELECT 'a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r'",
        "SELECT " + ", ".join(f"t{i}.a" for i in range(500)),
        "SELECT '" + "(" * 500 + "', \"" + "(" * 500 + '"',
        "SELECT 1 -- " + "(" * 500,
        "SELECT 1 /* " + "( union " * 500 + "*/",
        "SELECT $x$" + "(" * 500 + "$x$",
        "SELECT 'it''s (' || '" + "union " * 300 + "'",
        " union all ".join(["select 1"] * 201),
        "SELECT " + ", ".join(["(1)"] * 500),
    ],
)
def test_not_too_deep(sql: str) -> None:
    assert find_depth_problem(sql) == ""


def test_too_long_is_counted_in_bytes() -> None:
    assert find_length_problem("é" * 32 * 1024) == ""
    assert (
        find_length_problem("é" * 32 * 1024 + "x")
        == "The statement is 65,537 bytes long; it may have 65,536."
    )
