"""Keys and values of the rows of a batch: a slot for each row, those in use always the first ones.

So the products of attention read a plain slice, and nothing is gathered. A row that leaves gives its slot to
the last one; slots grow together, by doubling, when a row outgrows them.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 256  # tokens of a slot
STEP = 64  # to a multiple of which attention looks: kernels round alike whatever other rows need


class KeyValueSlots:
    """The cache of one model. A key names a row as long as it is there."""

    def __init__(
        self, layers: int, slots: int, heads: int, width: int, *, dtype: torch.dtype, most: int
    ) -> None:
        self._most = -(-most // STEP) * STEP
        self._shape = (slots, heads, min(LEAST, self._most), width)
        # Zeros, as what is masked out is multiplied by 0, which must not meet what is no number.
        # Keys are kept in fp32: scores of attention are rounded no sooner than in torch's own kernels.
        self.keys = [torch.zeros(self._shape, dtype=torch.float32) for _ in range(layers)]
        self.values = [torch.zeros(self._shape, dtype=dtype) for _ in range(layers)]
        self.order: list[int] = []  # which key has which slot
        self.lengths: dict[int, int] = {}

    def slot(self, key: int) -> int:
        """Where the row lies; a new one is put behind the others."""
        if key not in self.lengths:
            self.order.append(key)
            self.lengths[key] = 0
        return self.order.index(key)

    def reserve(self, tokens: int) -> None:
        """Make room for rows of so many tokens."""
        capacity = self.keys[0].shape[2]
        if tokens <= capacity:
            return
        while capacity < tokens:
            capacity = min(2 * capacity, max(self._most, -(-tokens // STEP) * STEP))
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                wider = old.new_zeros((*old.shape[:2], capacity, old.shape[3]))
                wider[: len(self.order), :, : old.shape[2]] = old[: len(self.order)]
                tensors[layer] = wider

    def release(self, key: int) -> None:
        """Forget the row."""
        if key not in self.lengths:
            return
        slot, last = self.order.index(key), len(self.order) - 1
        if slot != last:
            self._copy(last, slot, self.lengths[self.order[last]])
            self.order[slot] = self.order[last]
        self.order.pop()
        del self.lengths[key]

    def fork(self, key: int, copy: int) -> None:
        """A second row that begins with all of the first."""
        slot = self.slot(copy)
        self._copy(self.order.index(key), slot, self.lengths[key])
        self.lengths[copy] = self.lengths[key]

    def _copy(self, source: int, target: int, length: int) -> None:
        for tensor in (*self.keys, *self.values):
            tensor[target, :, :length] = tensor[source, :, :length]


def visible(lengths: list[int]) -> Tensor:
    """What is added to the scores of one more token a row, [rows, 1, 1, keys]: -inf beyond its tokens."""
    longest = -(-max(lengths) // STEP) * STEP
    hidden = torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]
    return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None, None]


def causal(before: int, tokens: int) -> Tensor:
    """The same for `tokens` tokens that follow `before` others of one row, [tokens, keys]."""
    longest = -(-(before + tokens) // STEP) * STEP
    hidden = torch.arange(longest)[None] > before + torch.arange(tokens)[:, None]
    return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
