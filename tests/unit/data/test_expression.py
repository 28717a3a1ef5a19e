"""What SQL a filter may hold: expressions over one row, and nothing that reaches further."""

from __future__ import annotations

import pytest

from engine.data.cleaning.row_queries import check_expression
from store.core.errors import ConfigError


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("answer_words > 3 AND language = 'en'", {"answer_words", "language"}),
        ("text ~ 'a' OR text ILIKE '%b%' OR label IN ('x', 'y')", {"text", "label"}),
        ("CASE WHEN html THEN 1 ELSE TRY_CAST(label AS INT) END BETWEEN 1 AND 3", {"html", "label"}),
        ("len(list_filter(string_split(text, ' '), lambda w: len(w) > n)) > 2", {"text", "n"}),
        ("\"source.author's\" IS NOT DISTINCT FROM 'a' -- why", {"source.author's"}),
        ("[w FOR w IN string_split(text, ' ') IF w <> 'a'][1] = 'b'", {"text"}),
        ("text[1:3] = 'abc' AND NOT (x::DOUBLE < 1e3)", {"text", "x"}),
        (
            "label = rpad(text, 20, ' ') OR format('{:.2f}', x) = printf('%05.1f', y)",
            {"label", "text", "x", "y"},
        ),
        ("list_contains(range(0, 100, 5), turns) AND text <> repeat('-', 10)", {"turns", "text"}),
    ],
)
def test_expressions_over_one_row_are_taken(expression: str, columns: set[str]) -> None:
    assert check_expression(expression) == columns


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("text LIKE", "at character 6: syntax error"),
        ("'äöü' = text AND", "at character 14"),
        ("1=1) OR (1=1", "syntax error"),
        ("true; DROP TABLE x", "more than one expression"),
        ("true UNION SELECT true", "syntax error"),
        ("a FROM b", "syntax error"),
        ("a ORDER BY 1", "syntax error"),
        ("a AS b", "syntax error"),
        ("a, b", "more than one expression"),
        ("*", "a \\*"),
        ("", "it is empty"),
        ("/* x", "unterminated"),
        ("a = (SELECT 1)", "at character 5: it holds a subquery"),
        ("EXISTS (FROM read_csv('/etc/passwd'))", "a subquery"),
        ("a IN (SELECT 1)", "a subquery"),
        ("count(*) > 1", "reads other rows"),
        ("max(words) = words", "reads other rows"),
        ("row_number() OVER () = 1", "a window function"),
        ("read_text('/etc/passwd') = 'a'", "can't be used in a condition"),
        ("query('SELECT 1')", "can't be used in a condition"),
        ("getenv('HOME') = 'a'", "no function getenv"),
        ("sleep_ms(1000)", "can't be used|another answer"),
        ("random() < 0.5", "another answer every time"),
        ("now() > '2020-01-01'", "another answer every time"),
        ("uuid() = 'a'", "another answer every time"),
        ("nosuch(text)", "no function nosuch"),
        ("source.author = 'a'", 'it is "source.author"'),
        ("? = 1", "a parameter"),
        ("length(rpad('a', 2000000000, 'b')) > 1", "at character 8: rpad makes more than 10,000 char"),
        ("length(lpad(text, words, 'b')) > 1", "lpad needs its size as a plain number"),
        ("length(repeat('x', 1e9)) > 1", "repeat needs its size as a plain number"),
        ("length('ab'.repeat(6000)) > 1", "repeat makes more than 10,000"),
        ("length(repeat(text, 9)) > 1", "repeat needs its size"),
        ("len(range(1000000000)) > 1", "range makes more than"),
        ("len(RANGE('1000000000')) > 1", "range needs its size"),
        ("list_aggregate(generate_series(-9000, 9000), 'sum') > 1", "generate_series makes more"),
        ("len(list_resize([1], 1000000000)) > 1", "list_resize makes more"),
        ("len(array_resize([1], words)) > 1", "array_resize needs its size"),
        ("bitstring('1', 2000000000) = '1'::BIT", "bitstring makes more"),
        ("format('{:1000000000}', 1) = ''", "format needs a plain text"),
        ("format('{:{}}', 1, 1000000000) = ''", "format needs a plain text"),
        ("format(text, 1) = ''", "format needs a plain text"),
        ("printf('%*d', 1000000000, 1) = ''", "printf needs a plain text"),
        ("len(list_transform(range(10000), lambda x: range(10000))) > 1", "sizes multiply"),
        ("rpad(repeat('a', 10), 20, ' ') = ''", "inside another call"),
        ("$x = 1", "a parameter"),
        ("#1 = 1", "a #number"),
        ("COLUMNS('a') = 1", "a \\*"),
        ("a = '\ud800'", "surrogates not allowed"),
        ("(" * 3000 + "1" + ")" * 3000, "can't be used"),
    ],
)
def test_everything_else_is_refused_with_the_reason(expression: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_expression(expression)
    assert caught.value.field == "expression"
    assert caught.value.fix
