"""What came of a matrix of transfer: from the rows of its cells to figures, each run paired with its base
model.

Beside a matrix of transfer: how far apart its data sets and its runs are, and backward transfer of
sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.diagnostics.phrasing import plural
from engine.diagnostics.transfer import transfer as diagnosis
from engine.diagnostics.transfer.transfer import Task, backward_transfer, embedding_distance, weight_cosine
from engine.models.continued import EarlierRun
from engine.prepare import prepare
from engine.signals.embedded.embeddings import row_vectors
from engine.transfer.transfer_measure import Shelf, cell_name, read_change
from engine.transfer.transfer_models import Column, Seen, Subject
from engine.worker.job import Job
from store.config.transfer_config import TransferConfig

Document = dict[str, Any]
Table = dict[str, np.ndarray]


@dataclass
class Member:
    """A run that can be measured: its keys, what each column becomes in its words, and the files of its
    cells."""

    config: TransferConfig
    of: Subject
    run: EarlierRun
    lineage: list[EarlierRun]
    tokenizer: Any
    base_key: str
    tuned_key: str
    positions: int | None
    tokens: dict[str, prepare.TokenisedPart] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def file(self, column: Column, *, base: bool) -> str:
        """The name of the file of a cell."""
        key = self.base_key if base else self.tuned_key
        return cell_name(key, self.tokenizer, column, self.config, self.positions)

    @property
    def change_file(self) -> str:
        """The name of the file of its weight change."""
        return f"change-{self.tuned_key}.parquet"

    def open_columns(self, columns: Sequence[Column]) -> list[Column]:
        """Those that the run can be measured on."""
        return [column for column in columns if column.dataset_id in self.tokens]


@dataclass(frozen=True)
class Matrix:
    """One that is measured: `members` are the subjects that could be, by run id."""

    job: Job
    config: TransferConfig
    shelf: Shelf
    subjects: Sequence[Subject]
    columns: Sequence[Column]
    members: Mapping[str, Member]

    def told(self, one: Subject) -> Document:
        """A run as the result tells it."""
        if one.run is None:
            return {"run_id": one.run_id, "name": one.name, "reason": one.reason, "trained": []}
        member = self.members.get(one.run_id)
        lineage = member.lineage if member else [one.run]
        trained = list(dict.fromkeys(run.fingerprint for run in lineage))
        known = {"run_id": one.run_id, "name": one.name, "reason": one.reason, "trained": trained}
        return known | {"init_from": one.run.config.init_from, "base": member.base_key if member else None}

    def table(self, member: Member, column: Column, *, base: bool) -> Table:
        """The rows of a cell, those that the run has seen left out."""
        table = pq.read_table(self.shelf.path(member.file(column, base=base)))
        kept = self.unseen(member, column, table)
        found = {name: table[name].to_numpy()[kept] for name in table.column_names}
        return found | {"right": found["correct"] == found["tokens"], "loss": found["loss_sum"]}

    def unseen(self, member: Member, column: Column, table: pa.Table) -> np.ndarray:
        away = column.row_ids[member.seen[column.dataset_id].rows]
        return ~np.isin(table["row_id"].to_numpy(), away)

    def cells(self) -> list[Document]:
        """The base model's cells, under an empty run_id, and those of every run."""
        found = self.base_cells()
        whole = (len(self.subjects) + 1) * len(self.columns)  # the base model has a row too
        for one in self.subjects:
            for column in self.columns:
                self.job.check_cancelled()
                self.job.progress(len(found), whole, "cells", "Working out intervals")
                cell = {"run_id": one.run_id, "dataset_id": column.dataset_id, "reason": one.reason}
                found.append(cell if one.reason else cell | self.cell(self.members[one.run_id], column))
        return found

    def base_cells(self) -> list[Document]:
        """Of the base model of the first run that could be measured, on all rows."""
        found = []
        for column in self.columns:
            member = next((m for m in self.members.values() if column.dataset_id in m.tokens), None)
            cell: Document = {"run_id": "", "dataset_id": column.dataset_id, "reason": column.reason}
            if member is not None:
                file = member.file(column, base=True)
                table = pq.read_table(self.shelf.path(file))
                loss, tokens, correct = (table[n].to_numpy() for n in ("loss_sum", "tokens", "correct"))
                if np.isfinite(loss).all():
                    level = diagnosis.level(loss, tokens, correct == tokens)
                    cell |= {"file": file, "base": level, "n": level["n"]}
                else:
                    cell["reason"] = "A loss is not a number."
            elif not column.reason:
                cell["reason"] = "No run could be measured beside it."
            found.append(cell)
        return found

    def cell(self, member: Member, column: Column) -> Document:
        """The figures of a run on a data set, or the reason why there are none."""
        key = column.dataset_id
        left_out = member.seen[key].document() if key in member.seen else {}
        if key in member.reasons:
            return {"reason": member.reasons[key], "left_out": left_out}
        base, tuned = (self.table(member, column, base=side) for side in (True, False))
        if not len(base["row_id"]):
            drawn = plural(len(column.row_ids), "row")
            reason = f"None of {drawn} is left: it was trained on them, or on the same questions."
            return {"reason": reason, "left_out": left_out}
        try:
            figures = diagnosis.compare(base, tuned)
        except ValueError as error:
            return {"reason": f"Nothing can be said: {error}.", "left_out": left_out}
        files = {
            "base_file": member.file(column, base=True),
            "file": member.file(column, base=False),
        }
        cut = member.tokens[key].truncated
        return {"reason": "", "left_out": left_out, "cut": cut, **files, **figures}


def distances(of: Matrix) -> list[Document]:
    """Between all pairs of data sets that are trained on or measured."""
    prints = [column.fingerprint for column in of.columns]
    prints += [run.fingerprint for member in of.members.values() for run in member.lineage[:1]]
    vectors: dict[str, np.ndarray] = {}
    for fingerprint in dict.fromkeys(prints):
        path = of.job.home.rows(fingerprint)
        if path.exists():
            vectors[fingerprint] = row_vectors(of.job.home, path, lambda *_: of.job.check_cancelled())
    names = list(vectors)
    return [
        {"first": a, "second": b} | embedding_distance(vectors[a], vectors[b])
        for place, a in enumerate(names)
        for b in names[place + 1 :]
    ]


def weights(of: Matrix) -> list[Document]:
    """Between all pairs of runs whose weight change is known."""
    files = {m.of.run_id: m.change_file for m in of.members.values()}
    sketches = {i: read_change(of.shelf.path(f)) for i, f in files.items() if of.shelf.has(f)}
    names = [run_id for run_id, one in sketches.items() if len(one.names)]
    return [
        {"first": a, "second": b} | weight_cosine(sketches[a], sketches[b])
        for place, a in enumerate(names)
        for b in names[place + 1 :]
    ]


def sequences(of: Matrix) -> list[Document]:
    """Backward transfer of every longest chain of runs that went on from one another."""
    before = {m.of.run_id: m.run.config.init_from for m in of.members.values()}
    last = [run_id for run_id in before if run_id not in before.values()]
    found = []
    for run_id in last:
        chain = [run_id]
        while before.get(chain[0]) in before:
            chain.insert(0, before[chain[0]])
        if len(chain) > 1:
            found.append({"runs": chain} | sequence(of, [of.members[i] for i in chain]))
    return found


def sequence(of: Matrix, chain: list[Member]) -> Document:
    """{datasets, transfer: `backward_transfer`, or null with `reason`}."""
    columns = {column.fingerprint: column for column in of.columns}
    end, tasks, names = chain[-1], [], []
    later = [member.run.fingerprint for member in chain]
    for place, member in enumerate(chain[:-1]):
        column = columns.get(member.run.fingerprint)
        if column is None or member.run.fingerprint in later[place + 1 :]:
            continue
        key = column.dataset_id
        if key not in member.tokens or key not in end.tokens or member.base_key != end.base_key:
            continue
        kept = [of.table(m, column, base=b) for m, b in ((end, True), (member, False), (end, False))]
        shared = np.intersect1d(kept[0]["row_id"], kept[1]["row_id"])
        sides = [table["loss"][np.isin(table["row_id"], shared)] for table in kept]
        if len(shared) and all(np.isfinite(side).all() for side in sides):
            tasks.append(Task(column.data["dataset"]["name"], *sides))
            names.append(key)
    if not tasks:
        reason = "None of its earlier data sets is among those that are measured, or it was trained on again."
        return {"datasets": [], "transfer": None, "reason": reason}
    return {"datasets": names, "transfer": backward_transfer(tasks), "reason": ""}
