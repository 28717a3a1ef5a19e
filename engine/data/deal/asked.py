"""What rows ask, however the caller put it: each question with the turns before it, without system turns and
tools. A row asks what another one asks where any of its questions is one of the other's, so a conversation
that goes on from a question asks that question too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from engine.data.deal.dealing import FEW_PROMPTS, SHARED_PROMPT
from engine.near.digest import digest
from engine.near.groups import join
from engine.rows.dataset import load
from store.contract.home import Home

UNSPOKEN = ("system", "tools")  # said to the model with every row: it would make rows alike

Conversation = Sequence[tuple[str, str]]  # role and content of each turn


class AskedQuestions(NamedTuple):
    """A key (uint64) for each question, in the order of rows and turns. rows: int64, which row asks it;
    total: how many rows there are."""

    rows: np.ndarray
    keys: np.ndarray
    total: int

    def between(self, first: int, end: int) -> AskedQuestions:
        """Of the rows from the first on, numbered anew."""
        mine = (self.rows >= first) & (self.rows < end)
        return AskedQuestions(self.rows[mine] - first, self.keys[mine], end - first)

    def of(self, chosen: np.ndarray) -> np.ndarray:
        """The keys of some rows (bool)."""
        return self.keys[chosen[self.rows]]

    def asking(self, keys: np.ndarray) -> np.ndarray:
        """Which rows ask one of these: bool."""
        asking = np.zeros(self.total, bool)
        asking[self.rows[np.isin(self.keys, keys)]] = True
        return asking

    def questions(self) -> np.ndarray:
        """The keys that are questions. What many rows share and go on from differently is an instruction, or
        an example in front of the question (`dealing`); the turns of one long conversation are neither."""
        if not len(self.keys):
            return self.keys
        follows = np.append(self.rows[1:] == self.rows[:-1], False)
        after = np.where(follows, np.append(self.keys[1:], self.keys[:1]), self.rows.astype(np.uint64))
        ways = np.unique(np.stack([self.keys, after], axis=1), axis=0)
        keys, count = np.unique(ways[:, 0], return_counts=True)
        chosen: np.ndarray = keys[count <= max(FEW_PROMPTS, SHARED_PROMPT * self.total)]
        return chosen

    def grouped(self, groups: np.ndarray) -> np.ndarray:
        """`groups` (int64), with rows that share a question in one."""
        chosen = np.isin(self.keys, self.questions())
        rows, keys = self.rows[chosen], self.keys[chosen]
        order = np.argsort(keys, kind="stable")
        rows, keys = rows[order], keys[order]
        same = keys[1:] == keys[:-1]
        return join(groups, rows[:-1][same], rows[1:][same])


def asked_in(conversations: Iterable[Conversation]) -> AskedQuestions:
    """The last turn of each is the answer; one without turns asks nothing."""
    rows: list[int] = []
    keys: list[bytes] = []
    count = 0
    for count, turns in enumerate(conversations, start=1):
        spoken: list[str] = []
        for place, (role, content) in enumerate(turns[:-1]):
            if role not in UNSPOKEN:
                spoken.append(content)
            if spoken and (role == "user" or place == len(turns) - 2):
                rows.append(count - 1)
                keys.append(digest("\n\n".join(spoken)))
    return AskedQuestions(np.array(rows, np.int64), np.frombuffer(b"".join(keys), "<u8").copy(), count)


def asked_by_rows(home: Home, fingerprint: str, row_ids: np.ndarray) -> AskedQuestions:
    """Of rows of a data set."""
    table = load(home, fingerprint, ["messages"], row_ids)
    conversations = (
        [(turn["role"], turn["content"]) for turn in turns or ()] for turns in table["messages"].to_pylist()
    )
    return asked_in(conversations)
