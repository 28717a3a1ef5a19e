"""Pieces of an answer: whole characters, special tokens left out, nothing of a stop string."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from engine.models.token_stream import PendingPiece, StopStrings, TokenText
from tests.tiny import make_tokenizer

TEXT = "Grüße, 世界 👩‍🚀! مرحبا\n\tx"


def test_the_pieces_are_the_text_and_no_piece_is_half_a_character() -> None:
    tokenizer: Any = make_tokenizer()
    tokens = tokenizer(TEXT, add_special_tokens=False).input_ids
    text = TokenText(tokenizer)
    pieces = [text.add(token) for token in tokens]
    assert "".join(pieces) + text.rest() == TEXT
    assert len(pieces) == len(tokens) == len(TEXT.encode())
    assert not any("\ufffd" in piece for piece in pieces)


def test_special_tokens_add_nothing_and_have_a_name() -> None:
    tokenizer: Any = make_tokenizer()
    text = TokenText(tokenizer)
    assert text.add(tokenizer.eos_token_id) == ""
    assert text.alone(tokenizer.eos_token_id) == "<|im_end|>"


def test_bytes_that_never_become_a_character_come_at_last() -> None:
    tokenizer: Any = make_tokenizer()
    half = tokenizer("世", add_special_tokens=False).input_ids[:2]
    text = TokenText(tokenizer)
    assert [text.add(token) for token in half] == ["", ""]
    assert text.rest() == "\ufffd"
    garbage = TokenText(tokenizer)
    assert "".join(garbage.add(half[1]) for _ in range(20)) != ""


def streamed(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    """What is told of these pieces, and whether a stop string ended it."""
    strings = StopStrings(stops)
    free: list[PendingPiece] = []
    for piece in pieces:
        free += strings.add(piece, {"text": "", "logprob": None, "top": []})
        if strings.stopped:
            break
    return "".join(piece.text for piece in [*free, *strings.rest()]), strings.stopped


@pytest.mark.parametrize("stops", [[], ["END"], ["\n\n", "END"], ["x", "no"], ["ENDE", "END "]])
def test_however_an_answer_is_cut_into_pieces_it_ends_before_the_first_stop_string(stops: list[str]) -> None:
    text = "one EN two EEND x\n\nEND no"
    places = [text.find(stop) for stop in stops if stop in text]
    expected = text[: min(places)] if places else text
    for size, first in itertools.product(range(1, 8), range(3)):
        cuts = [0, *range(first or size, len(text), size), len(text)]
        pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
        streamed_text, stopped = streamed(stops, pieces)
        assert stopped == bool(places)
        if size == 1:  # of several in one piece, the first in the text is what counts
            assert streamed_text == expected


def test_what_may_be_a_stop_string_waits_no_longer_than_it_must() -> None:
    strings = StopStrings(["END"])
    token: Any = {"text": "", "logprob": None, "top": []}
    assert strings.add("a E", token) == []
    assert [piece.text for piece in strings.add("x", token)] == ["a E", "x"]
