"""Tokens to text while they come: whole characters alone, and nothing that a stop string may still take back.

Invariant: the pieces of an answer, put together, are the text of its tokens, up to the first stop string.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

About = TypeVar("About")  # what is known of the token that completed a piece
BROKEN = "\ufffd"  # a character of which bytes are missing yet
LONGEST_CHARACTER = 5  # tokens; bytes that are no character after so many never become one
AHEAD = 8  # tokens before the new ones that are decoded with them, as white space hangs on what is before


class TokenText:
    """What each token adds to the text of those before it. kept: special tokens that are part of the text, as
    calls of functions may be written with them."""

    def __init__(self, tokenizer: Any, kept: frozenset[int] = frozenset()) -> None:
        self._tokenizer, self._kept = tokenizer, kept
        self._left_out = special_tokens(tokenizer) - kept if kept else frozenset()
        self._tokens: list[int] = []
        self._whole = 0  # tokens whose text has been given

    def add(self, token: int) -> str:
        """The text that this token completes; empty in the middle of a character, and for special tokens."""
        self._tokens.append(token)
        start = max(0, self._whole - AHEAD)
        before = self._decoded(self._tokens[start : self._whole])
        text = self._decoded(self._tokens[start:])
        if text.endswith(BROKEN) and len(self._tokens) - self._whole < LONGEST_CHARACTER:
            return ""
        self._whole = len(self._tokens)
        return text[len(before) :]

    def rest(self) -> str:
        """At the end: what never became a whole character."""
        start = max(0, self._whole - AHEAD)
        before = self._decoded(self._tokens[start : self._whole])
        self._whole = len(self._tokens)
        return self._decoded(self._tokens[start:])[len(before) :]

    def alone(self, token: int) -> str:
        """The token by itself, special ones by their names, as an alternative is shown."""
        return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))

    def _decoded(self, tokens: Sequence[int]) -> str:
        left = [token for token in tokens if token not in self._left_out]
        return str(
            self._tokenizer.decode(
                left, skip_special_tokens=not self._kept, clean_up_tokenization_spaces=False
            )
        )


def special_tokens(tokenizer: Any) -> frozenset[int]:
    """Those that texts of answers leave out."""
    return frozenset(token for token, added in tokenizer.added_tokens_decoder.items() if added.special)


@dataclass
class Held(Generic[About]):
    """A piece that waits: its text, and the token that completed it."""

    text: str
    about: About | None = None


class StopStrings(Generic[About]):
    """Holds back what may be the beginning of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held: list[Held[About]] = []
        self.stopped = False

    def add(self, text: str, about: About) -> list[Held[About]]:
        """The pieces that are free now; of the one in which a stop string begins, what is before it."""
        self._held.append(Held(text, about))
        waiting = "".join(piece.text for piece in self._held)
        places = [place for stop in self._stops if (place := waiting.find(stop)) >= 0]
        if places:
            self.stopped = True
            return self._released(min(places), cut=True)
        return self._released(len(waiting) - self._possible(waiting), cut=False)

    def rest(self) -> list[Held[About]]:
        """At the end: what was held back for nothing."""
        free, self._held = self._held, []
        return free

    def _possible(self, text: str) -> int:
        """Characters at the end that a stop string begins with, at most."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest

    def _released(self, characters: int, *, cut: bool) -> list[Held[About]]:
        free: list[Held[About]] = []
        while self._held and len(self._held[0].text) <= characters:
            characters -= len(self._held[0].text)
            free.append(self._held.pop(0))
            if cut and not characters:
                break
        if cut and characters:
            free.append(Held(self._held[0].text[:characters], self._held[0].about))
        if cut:
            self._held = []
        return free
