"""The deal of rows whose file says which part they are in (the column `part`).

What the file says stands, also where rows of equal text lie in two parts: that is a leak of the data set,
which a launch counts, and moving rows would make figures that nobody else gets. A part that the file has no
row of is taken from its training rows by its share, as a random deal takes it.
"""

from __future__ import annotations

import numpy as np

from engine.data.deal.split import PARTS, deal
from store.config.train_config import Split


def deal_given(parts: np.ndarray, digests: np.ndarray, split: Split, together: np.ndarray) -> np.ndarray:
    """For each row 0 (train), 1 (validation) or 2 (test).

    parts: object, of each row a name of PARTS, or None for train. digests: uint64. together: int64, equal
    where rows must not be parted. All of shape (rows,).
    """
    codes = np.zeros(len(parts), dtype=np.uint8)
    for code, name in enumerate(PARTS):
        codes[parts == name] = code
    sizes = {"validation_size": 1, "test_size": 2}
    missing = {field: getattr(split, field) for field, code in sizes.items() if not (codes == code).any()}
    if any(missing.values()):
        shares = {**dict.fromkeys(sizes, 0.0), **missing}
        rest = split.model_copy(update={**shares, "split_by": "random", "split_column": None})
        train = np.flatnonzero(codes == 0)
        codes[train] = deal(digests[train], rest, together[train])
    return codes
