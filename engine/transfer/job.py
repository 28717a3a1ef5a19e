"""The transfer job: every run of one base model on every data set, paired by row with the base model.

Measurements found in any job folder of the home folder are reused. A cell that can't be measured records
the reason, and the others continue. In addition to the cells, the result has possible predictors of
transfer (the distances between data sets, and the similarity of the runs' weight changes) and, for runs
that continued from one another, backward transfer.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from engine.models import hardware
from engine.models.hardware import get_device_name, read_versions
from engine.models.saved_models import EarlierRun
from engine.transfer import measurements as beside
from engine.transfer import measurements as measured
from engine.transfer import models as rows
from engine.transfer.measurements import CellFiles, Member, PendingCell, ProgressReporter, TransferMatrix
from engine.transfer.models import ModelLoader, Subject, TransferColumn, find_subject
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from store.core.errors import TunebenchError
from store.core.formatting import plural
from store.transfer.config import TransferConfig
from store.transfer.schemas import TransferResult

phases = build_fixed_phases(
    Phase(("Checking for rows seen in training", "Loading models"), 0),
    # estimated by `ProgressReporter`, which knows the tokens of all cells
    Phase(("Evaluating ", "Measuring weight changes"), 0.95),
    Phase("Computing confidence intervals", 0.05),
)


def run(job: WorkerJob) -> TransferResult:
    """Measure the matrix of `job.config`; return the document of docs/results.md."""
    config = TransferConfig.parse(job.config)
    try:
        return TransferJob(job, config).run()
    except Exception as error:
        if isinstance(error, hardware.OutOfMemory) or hardware.is_out_of_memory(error):
            size = config.per_device_eval_batch_size
            raise hardware.OutOfMemory(
                "The device ran out of memory during the evaluation.",
                fix=f"Set per_device_eval_batch_size to {max(1, size // 4)}, or reduce max_length.",
                field="per_device_eval_batch_size",
                change={"per_device_eval_batch_size": max(1, size // 4)},
            ) from error
        raise


class TransferJob:
    """One matrix: `prepare`, `measure`, then its cells and additional results."""

    def __init__(self, job: WorkerJob, config: TransferConfig) -> None:
        self.job, self.config = job, config
        self.shelf, self.models = CellFiles(job), ModelLoader(job)
        self.subjects: list[Subject] = []
        self.columns: list[TransferColumn] = []
        self.members: dict[str, Member] = {}
        self.made = 0
        self.measured_tokens, self.seconds = 0, 0.0

    def run(self) -> TransferResult:
        job, config = self.job, self.config
        began = time.monotonic()
        job.status("preparing")
        self.prepare()
        job.status("evaluating")
        self.measure()
        matrix = TransferMatrix(job, self.config, self.shelf, self.subjects, self.columns, self.members)
        return {
            "asked": config.asked,
            "runs": [matrix.run_document(subject) for subject in self.subjects],
            "datasets": [column.document(config.part) for column in self.columns],
            "cells": matrix.cells(),
            "distances": beside.compute_distances(matrix),
            "weights": beside.compute_weight_similarities(matrix),
            "sequences": beside.compute_sequences(matrix),
            "measured": self.made,
            "measured_tokens": self.measured_tokens,
            "measure_seconds": self.seconds,
            "seconds": time.monotonic() - began,
            "device": job.device,
            "device_name": get_device_name(torch.device(job.device)),
            "peak_memory_gib": hardware.measure_peak_gib(torch.device(job.device)),
            "versions": read_versions(),
        }

    # -- preparation --------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Collect subjects and columns, and for each pair the rows and those the run has seen."""
        job = self.job
        self.columns = [rows.build_column(job, self.config, listed) for listed in job.spec["datasets"]]
        self.subjects = [find_subject(job, run_id) for run_id in self.config.runs]
        for number, candidate in enumerate(self.subjects):
            job.progress(number, len(self.subjects), "runs", "Checking for rows seen in training")
            if candidate.reason or candidate.run is None:
                continue
            try:
                member = self.member(candidate, candidate.run)
            except (TunebenchError, OSError) as error:
                reason = error.message if isinstance(error, TunebenchError) else str(error)
                self.subjects[number] = Subject(candidate.run_id, candidate.name, candidate.run, reason)
                continue
            self.members[candidate.run_id] = member
            for column in self.columns:
                job.check_cancelled()
                self.look(member, column)

    def member(self, candidate: Subject, run: EarlierRun) -> Member:
        """Return the run with its keys. Raises the errors of loading its tokenizer or finding its weights."""
        models = self.models
        tokenizer, lineage = models.tokenizer(run), rows.find_lineage(self.job, run)
        keys = models.base_key(run), models.tuned_key(run)
        return Member(self.config, candidate, run, lineage, tokenizer, *keys, models.positions(run))

    def look(self, member: Member, column: TransferColumn) -> None:
        """Store the column in the run's tokens and the rows that the run has seen, or the reason why not."""
        if column.reason:
            member.reasons[column.dataset_id] = column.reason
            return
        part = measured.tokenize_column(self.job, member.tokenizer, column, self.config, member.positions)
        member.left_out[column.dataset_id] = rows.find_excluded_rows(
            self.job, rows.list_used_rows(member.lineage), column
        )
        if len(part.rows):
            member.tokens[column.dataset_id] = part
            return
        member.reasons[column.dataset_id] = (
            f"None of its {plural(len(column.row_ids), 'row')} has a response within"
            f" {self.config.max_length or member.positions or 0:,} tokens."
        )

    # -- measurement --------------------------------------------------------------------------------

    def missing(self, member: Member, *, base: bool) -> list[TransferColumn]:
        """Return the columns on which this model has not been measured."""
        return [c for c in member.open_columns(self.columns) if not self.shelf.has(member.file(c, base=base))]

    def measure(self) -> None:
        """Measure each cell once, base models first, because adapters are added to the loaded base model."""
        todo: dict[str, int] = {}
        for member in self.members.values():
            for base in (True, False):
                for column in self.missing(member, base=base):
                    part = member.tokens[column.dataset_id].rows
                    todo[member.file(column, base=base)] = len(part.ids)
        pace = ProgressReporter(self.job, len(todo), sum(todo.values()))
        self.job.progress(0, max(1, len(todo)), "cells", "Loading models")
        for member in self.members.values():
            self.measure_base(member, pace)
        for member in self.members.values():
            self.measure_tuned(member, pace)
        self.made, self.measured_tokens, self.seconds = pace.done_cells, pace.done_tokens, pace.seconds

    def measure_base(self, member: Member, pace: ProgressReporter) -> None:
        if columns := self.missing(member, base=True):
            try:
                model = self.models.base(member.run)
            except TunebenchError as error:
                self.give_up(member, f"The base model can't be loaded: {error.message}")
                return
            self.fill(member, columns, model, pace, base=True)

    def measure_tuned(self, member: Member, pace: ProgressReporter) -> None:
        columns, change = self.missing(member, base=False), member.change_file
        if not columns and self.shelf.has(change):
            return
        try:
            with self.models.tuned(member.run) as model:
                self.fill(member, columns, model, pace, base=False)
                if not self.shelf.has(change):
                    pace.within(f"Measuring weight changes of {member.of.name}")
                    sources = measured.list_weight_sources(member.run, model, self.stands_on(member.run))
                    measured.write_change(sources, self.shelf.path(change), self.job.check_cancelled)
        except TunebenchError as error:
            if isinstance(error, hardware.OutOfMemory):
                raise
            self.give_up(member, error.message)

    def stands_on(self, run: EarlierRun) -> str:
        return run.base(self.job.home) if run.adapter else self.models.origin(run)

    def give_up(self, member: Member, reason: str) -> None:
        for column in member.open_columns(self.columns):
            member.reasons.setdefault(column.dataset_id, reason)
        member.tokens = {}

    def fill(
        self, member: Member, columns: list[TransferColumn], model: Any, pace: ProgressReporter, *, base: bool
    ) -> None:
        for column in columns:
            who = "the base model" if base else member.of.name
            what = f"Evaluating {who} on {column.data['dataset']['name']}"
            path = self.shelf.path(member.file(column, base=base))
            part = member.tokens[column.dataset_id].rows
            cell = PendingCell(model, part, member.run, path, what)
            measured.measure_cell(self.job, cell, self.config, pace)
