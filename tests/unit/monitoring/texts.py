"""Questions of two kinds, made here: of a bank's customers, and between friends."""

from __future__ import annotations

import numpy as np

_ASKS = ("Why was my {} declined?", "How do I change the {} of my account?", "Where can I see my {}?",
         "I was charged twice for a {}, please help", "When will my {} arrive?",
         "Can I cancel a {} from the app?")  # fmt: skip
_THINGS = ("card", "card payment", "bank transfer", "cash withdrawal", "direct debit", "exchange rate",
           "top up",
           "refund", "virtual card", "statement", "PIN", "transfer fee", "currency account")  # fmt: skip
_CHATS = ("hey {} u coming to the party 2nite??", "lol {} that film was so funny haha",
          "mum says dinner at 7 {}",
          "WINNER!! {} claim ur free prize now txt WIN to 80082",
          "miss u {} call me when ur home x")  # fmt: skip
_NAMES = ("mate", "babe", "love", "dude", "sis", "bro", "darlin", "m8")


def bank_questions(rng: np.random.Generator, count: int) -> list[str]:
    """What customers of a bank ask."""
    return _drawn(rng, count, _ASKS, _THINGS)


def chat(rng: np.random.Generator, count: int) -> list[str]:
    """What friends write, and who wants their money."""
    return _drawn(rng, count, _CHATS, _NAMES)


def _drawn(rng: np.random.Generator, count: int, forms: tuple[str, ...], words: tuple[str, ...]) -> list[str]:
    return [str(rng.choice(forms)).format(rng.choice(words)) for _ in range(count)]
