"""Answers to one prompt as a tree, in which what begins alike is there once, and rows of prompt and tree.

A node is a token after which another one is asked for; the last token of a branch is asked for alone and
never passed through a model. Parents come before their children, so that in a row of a prompt and its nodes
nothing has to see what follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Tokens = Sequence[int]


@dataclass(frozen=True)
class TokenTree:
    """`tokens` and `depths` of the nodes; `visible` [nodes, nodes]: itself and the nodes before it. The
    tokens asked for, `asked_tokens`, come each after the node `after` (-1: the prompt's last token). `path`:
    of each branch the tokens asked for, all behind each other, and `of`: which branch."""

    tokens: np.ndarray
    depths: np.ndarray
    visible: np.ndarray
    after: np.ndarray
    asked_tokens: np.ndarray
    path: np.ndarray
    of: np.ndarray

    def runs(self, most: int) -> list[slice]:
        """The nodes in runs of like length that see nothing of each other, about `most` in each; beginnings
        that are shared stay in one."""
        size = len(self.tokens) / max(1, -(-len(self.tokens) // most))
        cuts = [0]
        for place in np.flatnonzero(self.depths == 0).tolist():
            if place - cuts[-1] >= size:
                cuts.append(place)
        return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(self.tokens)], strict=True)]

    def sums(self, each: np.ndarray, branches: int) -> np.ndarray:
        """Of each branch the sum over its tokens; `each`: of the tokens asked for."""
        return np.bincount(self.of, each[self.path], branches)


def grow(branches: Sequence[Tokens]) -> TokenTree:
    """The tree of these branches."""
    asked: dict[tuple[int, int], int] = {}  # (node before, token) -> place among the tokens asked for
    node_of: dict[int, int] = {}
    parents: list[int] = []
    path: list[int] = []
    for branch in branches:
        node = -1
        for place, token in enumerate(branch):
            path.append(asked.setdefault((node, token), len(asked)))
            if place + 1 < len(branch):
                before, node = node, node_of.setdefault(path[-1], len(parents))
                if node == len(parents):
                    parents.append(before)
    visible = np.eye(len(parents), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            visible[node] |= visible[parent]
    after, asked_tokens = np.array([*asked], np.int64).reshape(-1, 2).T
    return TokenTree(
        tokens=asked_tokens[[*node_of]] if node_of else asked_tokens[:0],
        depths=visible.sum(1) - 1,
        visible=visible,
        after=after,
        asked_tokens=asked_tokens,
        path=np.array(path, np.int64),
        of=np.repeat(np.arange(len(branches)), [len(branch) for branch in branches]),
    )


def forest(branches: Sequence[Tokens], most: int) -> list[tuple[np.ndarray, TokenTree]]:
    """The branches in trees of at most `most` nodes, a branch with more in one alone: which they are, and
    the tree."""
    order = sorted(range(len(branches)), key=lambda i: tuple(branches[i]))
    trees: list[list[int]] = []
    nodes = 0
    last: Tokens = ()
    for i in order:
        branch = branches[i]
        same = next((n for n, (a, b) in enumerate(zip(last, branch, strict=False)) if a != b), len(last))
        new = max(0, len(branch) - 1 - min(same, max(0, len(last) - 1)))
        if not trees or nodes + new > most:
            trees.append([])
            nodes, new = 0, len(branch) - 1
        trees[-1].append(i)
        nodes += new
        last = branch
    return [(np.array(some), grow([branches[i] for i in some])) for some in trees]


@dataclass(frozen=True)
class TreeRow:
    """The prompt number `prompt` with a tree of its branches, those of the numbers `which`."""

    prompt: int
    ids: Tokens
    which: np.ndarray
    tree: TokenTree

    def __len__(self) -> int:
        return len(self.ids) + len(self.tree.tokens)

    @property
    def picked(self) -> int:
        """Tokens after which others are asked for: the last ones of the row."""
        return 1 + len(self.tree.tokens)

    @property
    def tokens(self) -> np.ndarray:
        """Prompt and nodes."""
        return np.concatenate([np.asarray(self.ids, np.int64), self.tree.tokens])

    @property
    def positions(self) -> np.ndarray:
        """The place of each in the text that it belongs to."""
        return np.concatenate([np.arange(len(self.ids)), len(self.ids) + self.tree.depths])

    @property
    def visible(self) -> np.ndarray:
        """Which of these tokens each of them sees."""
        sees = np.tri(len(self), dtype=bool)
        sees[len(self.ids) :, len(self.ids) :] = self.tree.visible
        return sees


def rows(
    prompts: Sequence[Tokens], branches: Sequence[Sequence[Tokens]], enough: int, most: int
) -> list[TreeRow]:
    """Each prompt with its branches, the longest row first. A tree has at most `enough` nodes, or as many as
    the prompt has tokens, as a further tree takes the prompt once more, and never more than `most`; its nodes
    lie depth first."""
    tree_rows: list[TreeRow] = []
    forests: dict[tuple[int, int], list[tuple[np.ndarray, TokenTree]]] = {}
    for i, (ids, some) in enumerate(zip(prompts, branches, strict=True)):
        room = min(max(enough, len(ids)), most)
        key = id(some), room  # prompts may share the list of their branches
        if key not in forests:
            forests[key] = forest(some, room)
        tree_rows += [TreeRow(i, ids, which, tree) for which, tree in forests[key]]
    return sorted(tree_rows, key=lambda row: -len(row))


def common(several: Sequence[Tokens]) -> int:
    """With how many tokens all begin alike, leaving at least one to each."""
    first, last = min(map(tuple, several)), max(map(tuple, several))
    most = min(map(len, several)) - 1
    return next((n for n, (a, b) in enumerate(zip(first[:most], last, strict=False)) if a != b), max(0, most))


def mask(ahead: Sequence[int], sees: Sequence[np.ndarray], multiple: int = 1) -> np.ndarray:
    """Which keys the tokens of several rows see, bool [rows, longest, most ahead + longest], both rounded up
    to a multiple. Each sees the keys that are `ahead` of its row, which end where the row's own begin, and of
    those as `sees` says; what is padding sees everything, as there is no mean over nothing."""
    longest = -(-max(map(len, sees)) // multiple) * multiple
    front = -(-max(ahead) // multiple) * multiple
    visible = np.zeros((len(sees), longest, front + longest), bool)
    for row, before, own in zip(visible, ahead, sees, strict=True):
        row[:, front - before : front] = True
        row[: len(own), front : front + len(own)] = own
        row[len(own) :] = True
    return visible
