"""Rows of one template in a table: what they share is left out and said, what differs is shown."""

from __future__ import annotations

import pytest

from pages.shared.text_display import (
    CELL_CHARACTERS,
    MIN_SHARED_CHARACTERS,
    find_common_start,
    trim_common_start,
)

TEMPLATE = "Construct a function call that answers the question: "


@pytest.mark.parametrize(
    ("texts", "start"),
    [
        ([f"{TEMPLATE}what is {i}?" for i in range(5)], f"{TEMPLATE}what is "),
        ([TEMPLATE + "abc", TEMPLATE + "abd"], TEMPLATE),  # to the end of a word
        (["same " * 20] * 4, ""),  # one text: nothing differs
        ([TEMPLATE + "x"], ""),
        ([], ""),
        (["What is " + c for c in "abc"], ""),  # too short to be worth it
        ([*(TEMPLATE + c for c in "abc"), "Hello", "Good bye"], TEMPLATE),  # most of them
        ([*(TEMPLATE + c for c in "ab"), "Hello", "Good bye"], ""),  # half of them are not most
        (
            ["\u4e00" * MIN_SHARED_CHARACTERS + c for c in "\u4e01\u4e02"],
            "\u4e00" * MIN_SHARED_CHARACTERS,
        ),  # no spaces between words
    ],
)
def test_the_beginning_that_most_texts_share(texts: list[str], start: str) -> None:
    assert find_common_start(texts) == start


def test_what_is_left_out_is_marked_and_said() -> None:
    cells = [{"row_id": i, "prompt": f"{TEMPLATE}{i} " + "x" * 400, "answer": str(i)} for i in range(3)]
    cells.append({"row_id": 3, "prompt": "Hello", "answer": None})
    shortened, note = trim_common_start(cells, {"prompt": "Prompt", "answer": "Answer"})
    assert shortened[1]["prompt"] == "… 1 " + "x" * (CELL_CHARACTERS - 4) + "…"
    assert [cell["answer"] for cell in shortened] == ["0", "1", "2", None]
    assert shortened[3]["prompt"] == "Hello"
    assert note == f"Prompt: 3 of these 4 begin with “{TEMPLATE.strip()}”, shown as “…”."
    assert cells[1]["prompt"].startswith(TEMPLATE)  # what is cached stays as it was


def test_texts_that_differ_are_shown_from_their_beginning() -> None:
    cells = [{"prompt": "How?"}, {"prompt": "Why?"}]
    assert trim_common_start(cells, {"prompt": "Prompt"}) == (cells, "")
