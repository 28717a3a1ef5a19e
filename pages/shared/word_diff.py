"""Two texts side by side with the words marked in which they differ, as HTML; everything is escaped.

Pure functions. Words are compared, not letters, so that a reader sees what changed; long stretches that are
the same are folded, and what is folded or left off is said.
"""

from __future__ import annotations

import difflib
import html
import re
from itertools import zip_longest

from pages.shared.conversation import NAMES
from store.documents.data.row import RowContents

LONGEST = 1500  # words and gaps of a text that are compared
CONTEXT = 24  # words and gaps that stay on each side of a change
ALONE = (240, 80)  # and of a text that is held against no other: at its start and at its end
_PIECES = re.compile(r"\s+|\w+|[^\w\s]")

STYLE = """
<style>
.tb-pair {display: grid; gap: .6rem 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr))}
.tb-side {font-size: .9rem; line-height: 1.5; overflow-wrap: anywhere; white-space: pre-wrap; min-width: 0}
.tb-turn {display: block; font-size: .78rem; opacity: .7; margin-top: .35rem}
.tb-side del {background: color-mix(in srgb, #d64545 26%, transparent); text-decoration: line-through;
  border-radius: 3px}
.tb-side ins {background: color-mix(in srgb, #2e9e5b 28%, transparent); text-decoration: none;
  border-radius: 3px}
.tb-fold {opacity: .6; font-style: italic}
</style>
"""
Part = tuple[str, str]


def parts(row: RowContents | None) -> list[Part]:
    """A row as (what it is, its text), turn by turn."""
    if row is None:
        return []
    messages = row.get("messages") or []
    turns = [(NAMES.get(m["role"], str(m["role"])), str(m["content"])) for m in messages]
    if not messages:
        turns.append(("Text", str(row.get("text") or "")))
    turns += [("Rejected answer", str(row["rejected"]))] if row.get("rejected") else []
    turns += [("Label", str(row["label"]))] if row.get("label") is not None else []
    return turns


def pair(
    before: RowContents | None, after: RowContents | None, titles: tuple[str, str] = ("Before", "After")
) -> str:
    """Both rows beside each other (below each other on a phone); a row that is None is left out."""
    sides: tuple[list[str], list[str]] = ([], [])
    alone = before is None or after is None
    for old, new in zip_longest(parts(before), parts(after)):
        left, right = marked(old[1] if old else "", new[1] if new else "", mark=not alone)
        for side, part, text in ((sides[0], old, left), (sides[1], new, right)):
            if part is not None:
                side.append(f"<span class='tb-turn'>{html.escape(part[0])}</span>{text or '(nothing)'}")
    titled = zip(titles, sides, (before, after), strict=True)
    columns = [
        f"<div class='tb-side' dir='auto'><strong>{html.escape(title)}</strong>{''.join(side)}</div>"
        for title, side, row in titled
        if row is not None
    ]
    return f"{STYLE}<div class='tb-pair'>{''.join(columns)}</div>"


def against(first: str, other: str) -> str:
    """`other` alone, with the words marked that `first` does not have at that place."""
    return f"{STYLE}<div class='tb-side' dir='auto'>{marked(first, other)[1]}</div>"


def marked(before: str, after: str, *, mark: bool = True) -> tuple[str, str]:
    """Both texts as HTML with what only one of them has marked (<del>, <ins>)."""
    old, old_rest = _pieces(before)
    new, new_rest = _pieces(after)
    if not mark:
        texts = [_shortened(pieces, *ALONE) for pieces in (old, new)]
        return texts[0] + _left_off(old_rest), texts[1] + _left_off(new_rest)
    left: list[str] = []
    right: list[str] = []
    moves = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for index, (kind, a, b, c, d) in enumerate(moves):
        if kind == "equal":
            first, last = index == 0, index == len(moves) - 1
            same = _folded(old[a:b], not first, not last)
            left.append(same)
            right.append(same)
            continue
        left += [f"<del>{html.escape(''.join(old[a:b]))}</del>"] if b > a else []
        right += [f"<ins>{html.escape(''.join(new[c:d]))}</ins>"] if d > c else []
    return "".join(left) + _left_off(old_rest), "".join(right) + _left_off(new_rest)


def _pieces(text: str) -> tuple[list[str], int]:
    """Words, marks and gaps, and how many of them are not compared."""
    pieces = _PIECES.findall(text)
    return pieces[:LONGEST], max(0, len(pieces) - LONGEST)


def _folded(pieces: list[str], start: bool, end: bool) -> str:
    """Unchanged text; what lies away from a change is folded. `start`, `end`: a change is on that side."""
    if not start and not end:
        return _shortened(pieces, CONTEXT * 4, 0)
    return _shortened(pieces, CONTEXT * 2 if start else 0, CONTEXT * 2 if end else 0)


def _shortened(pieces: list[str], first: int, last: int) -> str:
    """The first and the last pieces, and how many words are folded between them."""
    if len(pieces) <= first + last + CONTEXT:
        return html.escape("".join(pieces))
    hidden = pieces[first : len(pieces) - last]
    words = sum(not piece.isspace() for piece in hidden)
    fold = f"<span class='tb-fold'> … {words:,} words … </span>"
    tail = pieces[len(pieces) - last :]
    return html.escape("".join(pieces[:first])) + fold + html.escape("".join(tail))


def _left_off(count: int) -> str:
    return f"<span class='tb-fold'> … {count:,} more words and gaps are not compared</span>" if count else ""
