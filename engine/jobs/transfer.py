"""The transfer job: every run of one base model on every data set, paired by row with the base model.

What can be found in the job folders of the home folder is not measured again. A cell that can't be measured
says why, and the others go on. Beside the cells stands what may predict them: how far apart the data sets
are, and how alike the runs moved the weights; and for runs that went on from one another, backward transfer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.data.signals.embeddings import row_vectors
from engine.diagnostics import transfer as diagnosis
from engine.diagnostics.phrasing import plural
from engine.diagnostics.transfer_distance import embedding_distance, weight_cosine
from engine.diagnostics.transfer_sequence import Task, backward_transfer
from engine.job import Job
from engine.jobs import transfer_measure as measured
from engine.jobs import transfer_rows as rows
from engine.jobs.transfer_measure import Pace, Shelf
from engine.jobs.transfer_models import Models, Subject, subject
from engine.jobs.transfer_rows import Column, Seen
from engine.tuning import memory, prepare
from engine.tuning.continued import Earlier
from engine.tuning.precision import device_name, versions
from store.errors import TunebenchError
from store.transfer_config import TransferConfig

Document = dict[str, Any]
Table = dict[str, np.ndarray]


@dataclass
class Member:
    """A run that can be measured: its keys, what each column becomes in its words, and the files of its
    cells."""

    of: Subject
    run: Earlier
    lineage: list[Earlier]
    tokenizer: Any
    base_key: str
    tuned_key: str
    positions: int | None
    tokens: dict[str, prepare.Part] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def run(job: Job) -> Document:
    """The matrix that `job.config` asks for; the document of docs/architecture.md."""
    config = TransferConfig.parse(job.config)
    try:
        return Transfer(job, config).run()
    except Exception as error:
        if isinstance(error, memory.OutOfMemory) or memory.is_out_of_memory(error):
            size = config.per_device_eval_batch_size
            raise memory.OutOfMemory(
                "The device ran out of memory while the models were measured.",
                fix=f"Set per_device_eval_batch_size to {max(1, size // 4)}, or max_length lower.",
                field="per_device_eval_batch_size",
                change={"per_device_eval_batch_size": max(1, size // 4)},
            ) from error
        raise


class Transfer:
    """One matrix: `prepare` → `measure` → `cells` → what stands beside it."""

    def __init__(self, job: Job, config: TransferConfig) -> None:
        self.job, self.config = job, config
        self.shelf, self.models = Shelf(job), Models(job)
        self.subjects: list[Subject] = []
        self.columns: list[Column] = []
        self.members: dict[str, Member] = {}
        self.made = 0
        self.measured_tokens, self.seconds = 0, 0.0

    def run(self) -> Document:
        job, config = self.job, self.config
        began = time.monotonic()
        job.status("preparing")
        self.prepare()
        job.status("evaluating")
        self.measure()
        cells = self.cells()
        return {
            "asked": config.asked,
            "runs": [self.told(one) for one in self.subjects],
            "datasets": [one.document(config.part) for one in self.columns],
            "cells": cells,
            "distances": self.distances(),
            "weights": self.weights(),
            "sequences": self.sequences(),
            "measured": self.made,
            "measured_tokens": self.measured_tokens,
            "measure_seconds": self.seconds,
            "seconds": time.monotonic() - began,
            "device": job.device,
            "device_name": device_name(torch.device(job.device)),
            "peak_memory_gib": memory.peak_gib(torch.device(job.device)),
            "versions": versions(),
        }

    # -- what is to be measured ---------------------------------------------------------------------

    def prepare(self) -> None:
        """Subjects, columns, and for each pair its rows and which of them the run has seen."""
        job = self.job
        self.columns = [rows.column(job, self.config, data) for data in job.order["datasets"]]
        self.subjects = [subject(job, run_id) for run_id in self.config.runs]
        for number, one in enumerate(self.subjects):
            job.progress(number, len(self.subjects), "runs", "Looking for rows that the runs have seen")
            if one.reason or one.run is None:
                continue
            try:
                member = self.member(one, one.run)
            except (TunebenchError, OSError) as error:
                said = error.message if isinstance(error, TunebenchError) else str(error)
                self.subjects[number] = Subject(one.run_id, one.name, one.run, said)
                continue
            self.members[one.run_id] = member
            for column in self.columns:
                job.check_cancelled()
                self.look(member, column)

    def member(self, one: Subject, run: Earlier) -> Member:
        """The run with its keys. Raises what loading its tokenizer or finding its weights raises."""
        models = self.models
        tokenizer, lineage = models.tokenizer(run), rows.lineage(self.job, run)
        keys = models.base_key(run), models.tuned_key(run)
        return Member(one, run, lineage, tokenizer, *keys, models.positions(run))

    def look(self, member: Member, column: Column) -> None:
        """The column in the run's tokens, and what it has seen of it; else the reason."""
        if column.reason:
            member.reasons[column.dataset_id] = column.reason
            return
        part = measured.tokens_of(self.job, member.tokenizer, column, self.config, member.positions)
        member.seen[column.dataset_id] = rows.seen(self.job, rows.used(member.lineage), column)
        if len(part.rows):
            member.tokens[column.dataset_id] = part
            return
        member.reasons[column.dataset_id] = (
            f"None of its {plural(len(column.row_ids), 'row')} has an answer within"
            f" {self.config.max_length or member.positions or 0:,} tokens."
        )

    def name(self, member: Member, column: Column, *, base: bool) -> str:
        """Of the file of a cell."""
        key = member.base_key if base else member.tuned_key
        return measured.cell_name(key, member.tokenizer, column, self.config, member.positions)

    def open_columns(self, member: Member) -> list[Column]:
        """Those that the run can be measured on."""
        return [column for column in self.columns if column.dataset_id in member.tokens]

    # -- measuring ----------------------------------------------------------------------------------

    def missing(self, member: Member, *, base: bool) -> list[Column]:
        """The columns that nobody has measured this model on."""
        return [c for c in self.open_columns(member) if not self.shelf.has(self.name(member, c, base=base))]

    def measure(self) -> None:
        """Base models first, as adapters go on top of what is loaded for them; each cell once."""
        todo: dict[str, int] = {}
        for member in self.members.values():
            for base in (True, False):
                for column in self.missing(member, base=base):
                    part = member.tokens[column.dataset_id].rows
                    todo[self.name(member, column, base=base)] = len(part.ids)
        pace = Pace(self.job, len(todo), sum(todo.values()))
        self.job.progress(0, max(1, len(todo)), "cells", "Loading the models")
        for member in self.members.values():
            self.measure_base(member, pace)
        for member in self.members.values():
            self.measure_tuned(member, pace)
        self.made, self.measured_tokens, self.seconds = pace.done_cells, pace.done_tokens, pace.seconds

    def measure_base(self, member: Member, pace: Pace) -> None:
        if columns := self.missing(member, base=True):
            try:
                model = self.models.base(member.run)
            except TunebenchError as error:
                self.give_up(member, f"The base model can't be loaded: {error.message}")
                return
            self.fill(member, columns, model, pace, base=True)

    def measure_tuned(self, member: Member, pace: Pace) -> None:
        columns, change = self.missing(member, base=False), f"change-{member.tuned_key}.parquet"
        if not columns and self.shelf.has(change):
            return
        try:
            with self.models.tuned(member.run) as model:
                self.fill(member, columns, model, pace, base=False)
                if not self.shelf.has(change):
                    pace.tell(f"How far {member.of.name} moved the weights")
                    sources = measured.weight_sources(member.run, model, self.stands_on(member.run))
                    measured.write_change(sources, self.shelf.path(change), self.job.check_cancelled)
        except TunebenchError as error:
            if isinstance(error, memory.OutOfMemory):
                raise
            self.give_up(member, error.message)

    def stands_on(self, run: Earlier) -> str:
        return run.base(self.job.home) if run.adapter else self.models.origin(run)

    def give_up(self, member: Member, reason: str) -> None:
        for column in self.open_columns(member):
            member.reasons.setdefault(column.dataset_id, reason)
        member.tokens = {}

    def fill(self, member: Member, columns: list[Column], model: Any, pace: Pace, *, base: bool) -> None:
        for column in columns:
            who = "the base model" if base else member.of.name
            what = f"{who} on {column.data['dataset']['name']}"
            path = self.shelf.path(self.name(member, column, base=base))
            part = member.tokens[column.dataset_id].rows
            measured.measure(self.job, model, part, self.config, member.run, path, pace, what)

    # -- what came of it ----------------------------------------------------------------------------

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
        table = pq.read_table(self.shelf.path(self.name(member, column, base=base)))
        kept = self.unseen(member, column, table)
        found = {name: table[name].to_numpy()[kept] for name in table.column_names}
        return found | {"right": found["correct"] == found["tokens"], "loss": found["loss_sum"]}

    def unseen(self, member: Member, column: Column, table: pa.Table) -> np.ndarray:
        away = column.row_ids[member.seen[column.dataset_id].rows]
        return ~np.isin(table["row_id"].to_numpy(), away)

    def cells(self) -> list[Document]:
        """The base model's cells, under an empty run_id, and those of every run."""
        found = self.base_cells()
        whole = len(self.subjects) * len(self.columns)
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
                file = self.name(member, column, base=True)
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
            "base_file": self.name(member, column, base=True),
            "file": self.name(member, column, base=False),
        }
        cut = member.tokens[key].truncated
        return {"reason": "", "left_out": left_out, "cut": cut, **files, **figures}

    # -- beside it ----------------------------------------------------------------------------------

    def distances(self) -> list[Document]:
        """Between all pairs of data sets that are trained on or measured."""
        prints = [column.fingerprint for column in self.columns]
        prints += [run.fingerprint for member in self.members.values() for run in member.lineage[:1]]
        vectors: dict[str, np.ndarray] = {}
        for fingerprint in dict.fromkeys(prints):
            path = self.job.home.rows(fingerprint)
            if path.exists():
                vectors[fingerprint] = row_vectors(self.job.home, path, self.reading)
        names = list(vectors)
        return [
            {"first": a, "second": b} | embedding_distance(vectors[a], vectors[b])
            for place, a in enumerate(names)
            for b in names[place + 1 :]
        ]

    def reading(self, done: int, total: int, unit: str, message: str) -> None:
        self.job.check_cancelled()

    def weights(self) -> list[Document]:
        """Between all pairs of runs whose weight change is known."""
        files = {m.of.run_id: f"change-{m.tuned_key}.parquet" for m in self.members.values()}
        sketches = {
            i: measured.read_change(self.shelf.path(f)) for i, f in files.items() if self.shelf.has(f)
        }
        names = [run_id for run_id, one in sketches.items() if len(one.names)]
        return [
            {"first": a, "second": b} | weight_cosine(sketches[a], sketches[b])
            for place, a in enumerate(names)
            for b in names[place + 1 :]
        ]

    def sequences(self) -> list[Document]:
        """Backward transfer of every longest chain of runs that went on from one another."""
        before = {m.of.run_id: m.run.config.init_from for m in self.members.values()}
        last = [run_id for run_id in before if run_id not in before.values()]
        found = []
        for run_id in last:
            chain = [run_id]
            while before.get(chain[0]) in before:
                chain.insert(0, before[chain[0]])
            if len(chain) > 1:
                found.append({"runs": chain} | self.sequence([self.members[i] for i in chain]))
        return found

    def sequence(self, chain: list[Member]) -> Document:
        """{datasets, transfer: `backward_transfer`, or null with `reason`}."""
        columns = {column.fingerprint: column for column in self.columns}
        end, tasks, names = chain[-1], [], []
        later = [member.run.fingerprint for member in chain]
        for place, member in enumerate(chain[:-1]):
            column = columns.get(member.run.fingerprint)
            if column is None or member.run.fingerprint in later[place + 1 :]:
                continue
            key = column.dataset_id
            if key not in member.tokens or key not in end.tokens or member.base_key != end.base_key:
                continue
            kept = [self.table(m, column, base=b) for m, b in ((end, True), (member, False), (end, False))]
            shared = np.intersect1d(kept[0]["row_id"], kept[1]["row_id"])
            sides = [table["loss"][np.isin(table["row_id"], shared)] for table in kept]
            if len(shared) and all(np.isfinite(side).all() for side in sides):
                tasks.append(Task(column.data["dataset"]["name"], *sides))
                names.append(key)
        if not tasks:
            reason = (
                "None of its earlier data sets is among those that are measured, or it was trained on again."
            )
            return {"datasets": [], "transfer": None, "reason": reason}
        return {"datasets": names, "transfer": backward_transfer(tasks), "reason": ""}
