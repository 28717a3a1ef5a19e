"""How long and how deep an SQL text is, told before any parser sees it.

DuckDB's parser and planner take more than proportional time for names of many parts, for chains of set
operations and for nesting, can't be interrupted in it, and allocate outside of their memory limit: a name of
20,000 dots is planned for minutes. One pass over the words of the text bounds all three.
"""

from __future__ import annotations

import re

MOST_BYTES = 64 * 1024  # of a statement that people write
MOST_NESTED = 200  # brackets and CASE inside of each other
MOST_PARTS = 16  # of one name: catalogue, schema, table, column and fields of structs
MOST_SETS = 200  # UNION, EXCEPT and INTERSECT in all
SHORTER = "Take it apart, or put the values into a list: WHERE name IN (…)."

# What can't be misread: comments, quoted texts and names, then words, dots and brackets.
_WORDS = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<dollar>\$\w*\$).*?(?P=dollar)|'(?:[^']|'')*'|"(?:[^"]|"")*"(?P<name>)"""
    r"""|(?P<word>[^\W\d]\w*)|(?P<dot>\.)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<space>\s+)|.""",
    re.DOTALL,
)
_SETS = frozenset({"union", "except", "intersect"})


def too_long(sql: str) -> str:
    """Why a person's statement is longer than it may be; "" where it is not."""
    size = len(sql.encode("utf-8", "surrogatepass"))
    return f"The statement is {size:,} bytes long; it may have {MOST_BYTES:,}." if size > MOST_BYTES else ""


def too_deep(sql: str) -> str:
    """Why a statement is deeper than it may be; "" where it is not."""
    depth = sets = dots = 0
    for token in _WORDS.finditer(sql):
        kind = token.lastgroup
        if kind == "dot":
            dots += 1
            if dots >= MOST_PARTS:
                return f"A name in the statement has more than {MOST_PARTS} parts."
            continue
        if kind in ("name", "word"):
            word = token[0].lower()
            sets += word in _SETS
            depth += {"case": 1, "end": -1}.get(word, 0)
        elif kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        if kind not in ("name", "word", "space", "comment"):
            dots = 0
        if depth > MOST_NESTED:
            return f"The statement is nested deeper than {MOST_NESTED} brackets."
        if sets > MOST_SETS:
            return f"The statement holds more than {MOST_SETS} UNION, EXCEPT or INTERSECT."
    return ""
