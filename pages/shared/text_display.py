"""Display of texts: a conversation, one row token by token, a diff of two texts, and texts with a common
beginning.

All data is escaped, and omissions are stated.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import streamlit as st

from pages.shared.session import escape_markdown
from store.core.row_schemas import ConvertedRow, RowContents
from store.core.training_schemas import RenderedRow, RowToken
from store.data.formats import letter_choices, strip_choices
from store.data.schemas import CanonicalRow

AVATARS = {
    "user": ":material/person:",
    "assistant": ":material/smart_toy:",
    "system": ":material/settings:",
    "tool": ":material/build:",
    "tools": ":material/handyman:",
}
NAMES = {"user": "Prompt", "assistant": "Answer", "system": "System", "tool": "Result", "tools": "Tools"}
TURN_CHARACTERS = 4000  # characters per turn; an omission is stated
MAX_SHOWN = 100_000  # characters of a text shown in full, because a page has several


def show_row(row: CanonicalRow | ConvertedRow, limit: int = TURN_CHARACTERS) -> None:
    """Draw a row of {messages | text, label, rejected, choices, answer_index} as plain text, never as
    Markdown.

    `limit`: maximum characters shown per turn.
    """
    messages = row.get("messages")
    if not messages:
        show_text(row.get("text") or "", limit)
        return
    choices = [str(choice) for choice in row.get("choices") or []]
    for place, message in enumerate(messages, 1):
        role, content = str(message["role"]), str(message["content"])
        asks = bool(choices) and place == len(messages) - 1
        preferred = bool(row.get("rejected")) and place == len(messages)
        avatar = ":material/thumb_up:" if preferred else AVATARS.get(role, ":material/chat:")
        with st.chat_message(role, avatar=avatar):
            if preferred:
                st.caption("Preferred answer")
            show_text(strip_choices(content, choices) if asks else content, limit)
            if asks:
                _show_choices(choices, row["answer_index"], limit)
    if row.get("rejected"):
        with st.chat_message("assistant", avatar=":material/thumb_down:"):
            st.caption("Rejected answer, for preference tuning only")
            show_text(str(row["rejected"]), limit)


def _show_choices(choices: list[str], right: int | None, limit: int) -> None:
    """Draw the choices as listed in the prompt, the correct one marked."""
    for place, (letter, choice) in enumerate(letter_choices(choices)):
        line = f"{letter}. {escape_markdown(shorten(choice, limit))}"
        st.markdown(f"**{line}** :green-badge[:material/check: right]" if place == right else line)


def show_text(text: str, limit: int = TURN_CHARACTERS, nothing: str = "") -> None:
    """Draw a text literally, never as Markdown. A long one is cut, with a control that shows the rest and
    counts the hidden characters. nothing: shown for an empty text.
    """
    st.text(f"{text[:limit]} …" if len(text) > limit else text or nothing)
    if len(text) > limit:
        with st.expander(f"Show all: {len(text) - limit:,} more characters"):
            st.text(f"… {shorten(text[limit:], MAX_SHOWN)}")


def shorten(text: str, limit: int = TURN_CHARACTERS) -> str:
    """`text`, or its beginning and the number of characters omitted."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit:,} more characters)"


def shorten_middle(text: str, limit: int) -> str:
    """`text`, or its two ends, because names often differ in their last letters."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 1].rstrip()}…{text[-end:].lstrip()}"


# One row as the model sees it: a box per token, trained tokens highlighted, white space visible. Colours are
# mixed from the text colour, so that they work in light and dark.

TRAINED_AWAY = "trained away"  # CSS classes of a token that training makes less likely
SHOWN_TOKENS = 600  # maximum number of tokens drawn; an omission is stated
_STYLE = """
<style>
.tb-tokens {font: 0.86rem/2.05 'Source Code Pro', monospace; overflow-wrap: anywhere}
.tb-tokens span {padding: .18em .12em; border-radius: 4px; margin-right: 1px; white-space: pre-wrap;
  -webkit-box-decoration-break: clone; box-decoration-break: clone}
.tb-tokens .seen {background: color-mix(in srgb, currentColor 7%, transparent)}
.tb-tokens .trained {background: color-mix(in srgb, #12a594 30%, transparent);
  box-shadow: inset 0 -2px 0 #12a594}
.tb-tokens .away {background: color-mix(in srgb, #e5484d 22%, transparent);
  box-shadow: inset 0 -2px 0 #e5484d}
.tb-tokens .special {font-size: .92em; opacity: .72; border: 1px dashed
  color-mix(in srgb, currentColor 35%, transparent)}
.tb-tokens i {font-style: normal; opacity: .6}
.tb-legend {display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .85rem; line-height: 1.9;
  margin-bottom: .35rem}
</style>
"""


def render_tokens(
    tokens: Sequence[RowToken], truncated: bool = False, *, legend: bool = True, away: bool = False
) -> str:
    """HTML of `tokens` with a legend of the trained ones. away: training makes them less likely, as those of
    a rejected answer.
    """
    drawn = tokens[:SHOWN_TOKENS]
    boxes = "".join(_render_token(token, away) for token in drawn)
    trained = sum(1 for token in tokens if token["trained"])
    key = _render_legend(len(tokens), trained, truncated, away) if legend else ""
    left = len(tokens) - SHOWN_TOKENS
    rest = f" <i>… {left} more tokens</i>" if left > 0 else ""
    return f"{_STYLE}{key}<div class='tb-tokens'>{boxes}{rest}</div>"


def render_row(row: RenderedRow) -> str:
    """HTML of a row; for a pair both answers, the `rejected` one last."""
    whole = render_tokens(row["tokens"], row["truncated"], legend="label" not in row)
    if not (pair := row.get("rejected")):
        return whole
    rejected = render_tokens(pair["tokens"], pair["truncated"], away=True)
    return (
        f"<p><b>Chosen answer</b></p>{whole}<p style='margin-top:1rem'><b>Rejected answer</b></p>{rejected}"
    )


def _render_token(token: RowToken, away: bool) -> str:
    text = str(token["text"])
    kind = (TRAINED_AWAY if away else "trained") if token["trained"] else "seen"
    special = " special" if is_special(text) else ""
    breaks = "<br>" * min(text.count("\n"), 3)
    return (
        f"<span class='{kind}{special}' title='token"
        f" {int(token['id'])}'>{show_whitespace(text)}</span>{breaks}"
    )


def is_special(text: str) -> bool:
    """Whether a token is a special token, such as <|im_end|>."""
    return len(text) > 2 and text[0] in "<[" and text[-1] in ">]" and not text.isspace() and " " not in text


def show_whitespace(text: str) -> str:
    """`text` escaped, with spaces, tabs and line ends as faint symbols."""
    signs = {" ": "<i>·</i>", "\n": "<i>↵</i>", "\t": "<i>⇥</i>", "\r": "<i>␍</i>"}
    if text == "":
        return "<i>∅</i>"
    return "".join(signs.get(char) or html.escape(char) for char in text)


def _render_legend(total: int, trained: int, truncated: bool, away: bool) -> str:
    share = f"{100 * trained / total:.0f}%" if total else "0%"
    cut = " · <b>cut at the maximum length</b>" if truncated else ""
    kind, means = (TRAINED_AWAY, "made less likely") if away else ("trained", "trained on")
    return (
        f"<div class='tb-legend'><span>{_render_sample(kind, f'&nbsp;{means}&nbsp;')}</span>"
        f"<span>{trained} of {total} tokens ({share}){cut}</span>"
        f"<span>{_render_sample('seen', '&nbsp;only read&nbsp;')}</span>"
        f"<span>{_render_sample('seen special', '&lt;mark&gt;')} a mark of the model</span>"
        "<span><span style='opacity:.5'>·&nbsp;↵</span> space, line end</span></div>"
    )


def _render_sample(kind: str, text: str) -> str:
    return f"<span class='tb-tokens' style='line-height:1.9'><span class='{kind}'>{text}</span></span>"


# A diff of two texts. Words are compared, not letters, so that a reader sees what changed. Long unchanged
# stretches are folded, and everything folded or omitted is stated.

MAX_DIFF_PIECES = 1500  # words and gaps compared per text
CONTEXT = 24  # words and gaps kept on each side of a change
SINGLE_CONTEXT = (240, 80)  # the same for a text without a counterpart: at its start and at its end
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


def split_row(row: RowContents | None) -> list[Part]:
    """A row as (role, text), turn by turn."""
    if row is None:
        return []
    messages = row.get("messages") or []
    turns = [(NAMES.get(m["role"], str(m["role"])), str(m["content"])) for m in messages]
    if not messages:
        turns.append(("Text", str(row.get("text") or "")))
    turns += [("Rejected answer", str(row["rejected"]))] if row.get("rejected") else []
    turns += [("Label", str(row["label"]))] if row.get("label") is not None else []
    return turns


def render_pair(
    before: RowContents | None, after: RowContents | None, titles: tuple[str, str] = ("Before", "After")
) -> str:
    """Two rows side by side (one below the other on a phone); None is omitted."""
    sides: tuple[list[str], list[str]] = ([], [])
    alone = before is None or after is None
    for old, new in zip_longest(split_row(before), split_row(after)):
        left, right = mark_differences(old[1] if old else "", new[1] if new else "", mark=not alone)
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


def mark_difference(first: str, other: str) -> str:
    """`other` with the words marked that `first` lacks at that position."""
    return f"{STYLE}<div class='tb-side' dir='auto'>{mark_differences(first, other)[1]}</div>"


def mark_differences(before: str, after: str, *, mark: bool = True) -> tuple[str, str]:
    """Both texts as HTML, with words that only one of them has in <del> or <ins>."""
    old, old_rest = _split_pieces(before)
    new, new_rest = _split_pieces(after)
    if not mark:
        texts = [_shorten_pieces(pieces, *SINGLE_CONTEXT) for pieces in (old, new)]
        return texts[0] + _describe_omitted(old_rest), texts[1] + _describe_omitted(new_rest)
    left: list[str] = []
    right: list[str] = []
    moves = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for index, (kind, a, b, c, d) in enumerate(moves):
        if kind == "equal":
            first, last = index == 0, index == len(moves) - 1
            same = _fold_unchanged(old[a:b], not first, not last)
            left.append(same)
            right.append(same)
            continue
        left += [f"<del>{html.escape(''.join(old[a:b]))}</del>"] if b > a else []
        right += [f"<ins>{html.escape(''.join(new[c:d]))}</ins>"] if d > c else []
    return "".join(left) + _describe_omitted(old_rest), "".join(right) + _describe_omitted(new_rest)


def _split_pieces(text: str) -> tuple[list[str], int]:
    """Words, punctuation and gaps, and the number of pieces beyond the comparison limit."""
    pieces = _PIECES.findall(text)
    return pieces[:MAX_DIFF_PIECES], max(0, len(pieces) - MAX_DIFF_PIECES)


def _fold_unchanged(pieces: list[str], start: bool, end: bool) -> str:
    """Unchanged text, folded away from changes. `start`, `end`: there is a change on that side."""
    if not start and not end:
        return _shorten_pieces(pieces, CONTEXT * 4, 0)
    return _shorten_pieces(pieces, CONTEXT * 2 if start else 0, CONTEXT * 2 if end else 0)


def _shorten_pieces(pieces: list[str], first: int, last: int) -> str:
    """The first and last pieces, and the number of words folded between them."""
    if len(pieces) <= first + last + CONTEXT:
        return html.escape("".join(pieces))
    hidden = pieces[first : len(pieces) - last]
    words = sum(not piece.isspace() for piece in hidden)
    fold = f"<span class='tb-fold'> … {words:,} words … </span>"
    tail = pieces[len(pieces) - last :]
    return html.escape("".join(pieces[:first])) + fold + html.escape("".join(tail))


def _describe_omitted(count: int) -> str:
    return f"<span class='tb-fold'> … {count:,} more words and gaps are not compared</span>" if count else ""


MIN_SHARED_CHARACTERS = 24  # minimum length of a common beginning that is omitted
CELL_CHARACTERS = 300  # characters per table cell
NAMED = 80  # characters of the common beginning quoted in the note

Cell = dict[str, Any]


def find_common_start(texts: Sequence[str]) -> str:
    """The longest beginning, up to the end of a word, shared by all of these texts or else by more than half
    of them; "" if it is short or all texts are equal.
    """
    ordered = sorted(set(texts))  # if two texts share a beginning, so do all texts sorted between them
    if len(ordered) < 2:
        return ""
    for size in dict.fromkeys((len(ordered), max(2, len(ordered) // 2 + 1))):
        ends = zip(ordered, ordered[size - 1 :], strict=False)
        start = max((_find_shared_start(*pair) for pair in ends), key=len)
        if any(space in start for space in " \n\t"):
            start = start[: max(start.rfind(space) for space in " \n\t") + 1]
        if len(start) >= MIN_SHARED_CHARACTERS:
            return start
    return ""


def _find_shared_start(first: str, other: str) -> str:
    differs = (at for at, (a, b) in enumerate(zip(first, other, strict=False)) if a != b)
    return first[: next(differs, min(len(first), len(other)))]


def trim_common_start(cells: Sequence[Cell], titles: Mapping[str, str]) -> tuple[list[Cell], str]:
    """Cells with "…" in place of the common beginning of their column, cut to table width, and a note of what
    was omitted. `titles`: the text columns.
    """
    shortened, sentences = [dict(cell) for cell in cells], []
    for name, title in titles.items():
        start = find_common_start([str(cell[name]) for cell in cells if cell.get(name)])
        alike = [cell for cell in shortened if start and str(cell.get(name) or "").startswith(start)]
        for cell in alike:
            cell[name] = f"… {cell[name][len(start) :]}"
        for cell in shortened:
            text = cell.get(name)
            if text and len(text) > CELL_CHARACTERS:
                cell[name] = f"{text[:CELL_CHARACTERS]}…"
        if alike:
            begin = shorten_middle(" ".join(start.split()), NAMED)
            how_many = (
                f"all {len(shortened)}"
                if len(alike) == len(shortened)
                else f"{len(alike)} of these {len(shortened)}"
            )
            sentences.append(f"{title}: {how_many} begin with “{begin}”, shown as “…”.")
    return shortened, " ".join(sentences)
