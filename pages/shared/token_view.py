"""One row as the model sees it: every token a box, the trained ones marked, white space made visible.

Pure functions from tokens to HTML. Everything that comes from data is escaped; colours are mixed from the
text's own colour, so that one picture is right in light and in dark.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from store.documents.data.rendering import RenderedRow, RowToken

AWAY = "trained away"  # classes of a token that training makes less likely
SHOWN = 600  # tokens drawn at most; what is left off is said
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


def token_view(
    tokens: Sequence[RowToken], truncated: bool = False, *, legend: bool = True, away: bool = False
) -> str:
    """HTML of `tokens`, with a legend of what is trained. away: the training makes them
    less likely, as they are of a rejected answer."""
    drawn = tokens[:SHOWN]
    boxes = "".join(_box(token, away) for token in drawn)
    trained = sum(1 for token in tokens if token["trained"])
    key = _legend(len(tokens), trained, truncated, away) if legend else ""
    return f"{_STYLE}{key}<div class='tb-tokens'>{boxes}{_rest(tokens)}</div>"


def row_view(row: RenderedRow) -> str:
    """HTML of a row; of a pair both answers, the `rejected` one last."""
    whole = token_view(row["tokens"], row["truncated"], legend="label" not in row)
    if not (pair := row.get("rejected")):
        return whole
    rejected = token_view(pair["tokens"], pair["truncated"], away=True)
    return (
        f"<p><b>Chosen answer</b></p>{whole}<p style='margin-top:1rem'><b>Rejected answer</b></p>{rejected}"
    )


def _box(token: RowToken, away: bool) -> str:
    text = str(token["text"])
    kind = (AWAY if away else "trained") if token["trained"] else "seen"
    special = " special" if is_special(text) else ""
    breaks = "<br>" * min(text.count("\n"), 3)
    return f"<span class='{kind}{special}' title='token {int(token['id'])}'>{visible(text)}</span>{breaks}"


def is_special(text: str) -> bool:
    """Whether a token is one of the model's own marks, such as <|im_end|>."""
    return len(text) > 2 and text[0] in "<[" and text[-1] in ">]" and not text.isspace() and " " not in text


def visible(text: str) -> str:
    """`text` escaped, with spaces, tabs and line ends drawn as faint signs."""
    signs = {" ": "<i>·</i>", "\n": "<i>↵</i>", "\t": "<i>⇥</i>", "\r": "<i>␍</i>"}
    if text == "":
        return "<i>∅</i>"
    return "".join(signs.get(char) or html.escape(char) for char in text)


def _legend(total: int, trained: int, truncated: bool, away: bool) -> str:
    share = f"{100 * trained / total:.0f}%" if total else "0%"
    cut = " · <b>cut at the maximum length</b>" if truncated else ""
    kind, means = (AWAY, "made less likely") if away else ("trained", "trained on")
    return (
        f"<div class='tb-legend'><span>{_sample(kind, f'&nbsp;{means}&nbsp;')}</span>"
        f"<span>{trained} of {total} tokens ({share}){cut}</span>"
        f"<span>{_sample('seen', '&nbsp;only read&nbsp;')}</span>"
        f"<span>{_sample('seen special', '&lt;mark&gt;')} a mark of the model</span>"
        "<span><span style='opacity:.5'>·&nbsp;↵</span> space, line end</span></div>"
    )


def _sample(kind: str, text: str) -> str:
    return f"<span class='tb-tokens' style='line-height:1.9'><span class='{kind}'>{text}</span></span>"


def _rest(tokens: Sequence[RowToken]) -> str:
    left = len(tokens) - SHOWN
    return f" <i>… {left} more tokens</i>" if left > 0 else ""
