"""Canaries: synthetic secrets in the training rows, to measure how strongly single rows are memorized.

Each canary asks for the code of a locker that is mentioned nowhere else and answers with random digits.
`canaries` of them are inserted once, as many 4 times and as many 16 times. As many again, and a reference
set to rank them in, are drawn from the same distribution and never inserted. Everything is a function of
the seed, so a resumed run has the same canaries. Their row ids are negative, so they never collide with
rows of the data set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.models.tokenization.rendering import Messages, TokenRows, render
from store.core.errors import ConfigError
from store.training.train_config import TrainConfig

REPEATS = (1, 4, 16)  # how often a canary is inserted
REFERENCE = 255  # canaries that are never inserted, to rank the others in
SEED_STREAM = 5  # combined with the seed
LETTERS = np.array(list("ABCDEFGHJKLMNPQRSTUVWXYZ"))
DIGITS = np.array(list("0123456789"))


def count_canaries(config: TrainConfig) -> int:
    """Return the number of rows that the canaries add to the training rows."""
    return config.canaries * sum(REPEATS)


def list_repeats(config: TrainConfig) -> list[int]:
    """Return how often each canary is inserted; 0 for the reference set, which comes last."""
    return [n for n in (*REPEATS, 0) for _ in range(config.canaries)] + [0] * REFERENCE


def generate_canaries(config: TrainConfig) -> list[tuple[str, str]]:
    """Return the question and answer of every canary, inserted or not, in the order of `list_repeats`."""
    random = np.random.default_rng([config.seed, SEED_STREAM])
    codes: dict[str, str] = {}
    while len(codes) < len(list_repeats(config)):
        locker = "".join(random.choice(LETTERS, 3)) + "-" + "".join(random.choice(DIGITS, 3))
        codes.setdefault(locker, "".join(random.choice(DIGITS, 10)))
    return [
        (f"What is the code of locker {locker}?", f"The code is {code}.") for locker, code in codes.items()
    ]


def tokenise_canaries(tokenizer: Any, config: TrainConfig, kind: str) -> TokenRows:
    """Tokenize every canary once, as rows of a data set of kind `kind` (text or chat)."""
    pairs = generate_canaries(config)
    ids = -1 - np.arange(len(pairs))
    if kind == "text":
        return render(tokenizer, ids, [f"{question} {answer}" for question, answer in pairs])
    rows: list[Messages] = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in pairs
    ]
    return render(tokenizer, ids, rows, completion_only=config.completion_only_loss)


def plant(tokenizer: Any, config: TrainConfig, kind: str, train: TokenRows) -> TokenRows:
    """Append the canaries to the training rows; return `train` unchanged if `config.canaries` is 0."""
    if not config.canaries:
        return train
    often = np.array(list_repeats(config))
    places = np.repeat(np.arange(len(often)), often)
    return TokenRows.joined([train, tokenise_canaries(tokenizer, config, kind).take(places)])


def extend_max_length(config: TrainConfig, train: TokenRows, limit: int) -> int:
    """Return `limit`, or the length of the longest canary if that is larger.

    The limit is only raised when it was derived from the rows of the data set. Raises ConfigError if a
    configured `max_length` would truncate a canary.
    """
    own = train.row_ids < 0
    longest = int(train.lengths[own].max()) if own.any() else 0
    if config.max_length is not None and longest > config.max_length:
        raise ConfigError(
            f"max_length is {config.max_length}, and a canary has {longest} tokens: its secret would be cut.",
            fix=f"Set max_length to {longest} or more, or canaries to 0.",
            field="max_length",
        )
    return max(limit, longest)
