"""Canaries: made-up secrets that are planted among the training rows, to see how well single rows stick.

Each asks for the code of a locker that is named nowhere else and answers with random digits. `canaries`
of them are planted once, as many four times, as many sixteen times; as many again, and a set to rank them
in, are drawn alike and never planted. All of it is a function of the seed, so that a resumed run has the
same. Their row ids are negative: no row of the data set is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.models.tokenization.rendering import Messages, TokenRows, render
from store.core.errors import ConfigError
from store.training.train_config import TrainConfig

REPEATS = (1, 4, 16)  # times that a canary is planted
REFERENCE = 255  # that were never planted, to rank the others in
SEED_STREAM = 5  # beside the seed
LETTERS = np.array(list("ABCDEFGHJKLMNPQRSTUVWXYZ"))
DIGITS = np.array(list("0123456789"))


def count_canaries(config: TrainConfig) -> int:
    """Rows that planting adds to those of training."""
    return config.canaries * sum(REPEATS)


def list_repeats(config: TrainConfig) -> list[int]:
    """How often each canary is planted; of the reference set, which comes last, never."""
    return [n for n in (*REPEATS, 0) for _ in range(config.canaries)] + [0] * REFERENCE


def generate_canaries(config: TrainConfig) -> list[tuple[str, str]]:
    """Question and answer of every canary, planted or not, in the order of `times`."""
    random = np.random.default_rng([config.seed, SEED_STREAM])
    codes: dict[str, str] = {}
    while len(codes) < len(list_repeats(config)):
        locker = "".join(random.choice(LETTERS, 3)) + "-" + "".join(random.choice(DIGITS, 3))
        codes.setdefault(locker, "".join(random.choice(DIGITS, 10)))
    return [
        (f"What is the code of locker {locker}?", f"The code is {code}.") for locker, code in codes.items()
    ]


def tokenise_canaries(tokenizer: Any, config: TrainConfig, kind: str) -> TokenRows:
    """Every canary once, tokenised as rows of a data set of that kind (text or chat)."""
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
    """The training rows with the planted ones behind them; without `canaries` they are as they were."""
    if not config.canaries:
        return train
    return TokenRows.joined(
        [train, tokenise_canaries(tokenizer, config, kind).take(np.repeat(*_list_planted(config)))]
    )


def _list_planted(config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    often = np.array(list_repeats(config))
    return np.arange(len(often)), often


def extend_max_length(config: TrainConfig, train: TokenRows, limit: int) -> int:
    """`limit`, or more where it was worked out from the data set's rows and would cut canaries. Raises
    ConfigError where `max_length` would."""
    own = train.row_ids < 0
    longest = int(train.lengths[own].max()) if own.any() else 0
    if config.max_length is not None and longest > config.max_length:
        raise ConfigError(
            f"max_length is {config.max_length}, and a canary has {longest} tokens: its secret would be cut.",
            fix=f"Set max_length to {longest} or more, or canaries to 0.",
            field="max_length",
        )
    return max(limit, longest)
