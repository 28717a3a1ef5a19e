"""The logits of a causal model for the tokens of several texts after each of many prompts.

Prompts and texts pass as `branches` passes them to add log-probabilities up: what the prompts of a batch
begin with, each prompt, and what its texts have in common go through the packed forward of a CPU once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from engine.forward import losses, token_tree
from engine.forward.branches import NODES
from engine.forward.packed_trees import TOKENS, Packed
from engine.forward.token_tree import Tokens, TreeRow


def branch_logits(
    forward: Packed, prompts: Sequence[Tokens], branches: Sequence[Sequence[Tokens]]
) -> Iterator[list[np.ndarray]]:
    """Of each prompt, in their order, of each branch the logits [tokens, vocabulary] in fp32, under which its
    tokens stand. Prompts and branches have a token at least; the model is in evaluation mode. Neighbours pass
    together and nothing else decides which, so that equal calls of equal models give equal numbers."""
    entries = forward.head.weight.shape[0]
    most = max(2, losses.LOGIT_BYTES // (losses.LOGIT * entries))
    rows = [
        [TreeRow(i, ids, which, tree) for which, tree in token_tree.forest(some, max(NODES, len(ids)))]
        for i, (ids, some) in enumerate(zip(prompts, branches, strict=True))
    ]
    for batch in _batches(rows, TOKENS["cpu"], most):
        with torch.inference_mode():
            parts = forward.logits([row for several in batch for row in several])
            logits = torch.cat([part.float().cpu() for part in parts]).numpy()
        start = 0
        for several in batch:
            of_prompt: dict[int, np.ndarray] = {}
            for row in several:
                own, start = logits[start : start + row.picked], start + row.picked
                after = row.tree.after[row.tree.path] + 1  # 0 is after the prompt
                of_prompt |= {int(n): own[after[row.tree.of == i]] for i, n in enumerate(row.which)}
            yield [of_prompt[n] for n in range(len(of_prompt))]


def _batches(rows: Sequence[list[TreeRow]], most: int, most_picked: int) -> Iterator[list[list[TreeRow]]]:
    """The rows of neighbouring prompts, of so many tokens and logits at most, or those of one prompt."""
    batch: list[list[TreeRow]] = []
    tokens = picked = 0
    for several in rows:
        own, own_picked = sum(map(len, several)), sum(row.picked for row in several)
        if batch and (tokens + own > most or picked + own_picked > most_picked):
            yield batch
            batch, tokens, picked = [], 0, 0
        batch.append(several)
        tokens, picked = tokens + own, picked + own_picked
    if batch:
        yield batch
