"""Beside a matrix of transfer: how far apart its data sets and its runs are, and backward transfer of
sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.diagnostics.transfer.transfer_distance import embedding_distance, weight_cosine
from engine.diagnostics.transfer.transfer_sequence import Task, backward_transfer
from engine.signals.embedded.embeddings import row_vectors
from engine.transfer.transfer_figures import Matrix, Member
from engine.transfer.transfer_measure import read_change

Document = dict[str, Any]


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
