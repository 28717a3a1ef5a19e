"""One row drawn token by token: nothing of the data becomes markup, nothing is left off in silence."""

from __future__ import annotations

from pages.shared.text_display import SHOWN_TOKENS, is_special, render_tokens


def token(text: str, trained: bool = False, id: int = 1) -> dict[str, object]:
    return {"text": text, "id": id, "trained": trained}


def test_data_is_escaped_and_white_space_is_drawn() -> None:
    html = render_tokens([token("<script>alert(1)"), token(" a\tb\n"), token("</div>")])
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "<i>·</i>a<i>⇥</i>b<i>↵</i>" in html


def test_trained_tokens_are_marked_and_counted() -> None:
    html = render_tokens([token("a"), token("b", True), token("c", True), token("d")], truncated=True)
    assert html.count("<span class='trained' title=") == 2
    assert "2 of 4 tokens (50%)" in html
    assert "cut at the maximum length" in html


def test_what_is_left_off_is_said() -> None:
    assert "… 7 more tokens" in render_tokens([token("x")] * (SHOWN_TOKENS + 7))
    assert "more tokens" not in render_tokens([token("x")] * SHOWN_TOKENS)
    assert "0 of 0 tokens (0%)" in render_tokens([])


def test_the_models_own_marks_are_told_from_text() -> None:
    assert is_special("<|im_end|>")
    assert is_special("[INST]")
    assert not is_special("<a b>")
    assert not is_special("<")
