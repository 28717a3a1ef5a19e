"""The parity check of one export, from the job's side: ask the model, start the other process, judge."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import torch

from engine.shipping.parity import judged, kept
from engine.shipping.parity.asked import ParityAnswers, ParityFolder
from engine.shipping.parity.figures import differences
from engine.shipping.parity.reference import ReferenceAnswers
from engine.shipping.parity.rows import ParityRows, choose
from engine.shipping.subject import ExportSubject
from engine.worker.job import Cancelled, WorkerJob
from engine.worker.progress import PhaseReporter
from store.catalog.export_forms import file_form, limits_of
from store.catalog.methods import HELD_TITLES
from store.config.shipping.model_export_config import ModelExport
from store.contract.errors import ModelError
from store.contract.jobdir import read_json, write_json
from store.documents.shipping.parity import ParityReport

PROJECT = Path(__file__).resolve().parents[3]
LAST_LINES = 12


def check(
    job: WorkerJob, subject: ExportSubject, config: ModelExport, export: Path, aside: Path
) -> tuple[ParityReport, list[str]]:
    """Hold the finished folder `export` against its subject; and what a reader should know. Raises
    ModelError where the other process can't read it at all."""
    began = time.monotonic()
    folder = ParityFolder(aside / "parity")
    folder.path.mkdir()
    form = file_form(config.form, config.gguf)
    file = next(export.glob("*.gguf")) if form.reader == "llama.cpp" else export
    job.status("evaluating")
    rows = choose(job, subject, config)
    own = _reference(job, subject, config, rows, folder)
    _write_questions(job, subject, config, own, folder, file)
    answered = _apart(job, folder, interpreter(config.form))
    figures = differences(own, answered, job.home, folder.tokenizer, job.check_cancelled)
    report = judged.report(
        own,
        answered,
        limits_of(config.form, config.gguf),
        figures=figures,
        held=_held(subject, config),
        seconds=time.monotonic() - began,
    )
    return report, rows.notices


def _reference(
    job: WorkerJob, subject: ExportSubject, config: ModelExport, rows: ParityRows, folder: ParityFolder
) -> ReferenceAnswers:
    """The model is let go before the export is read: both would have to fit into the memory."""
    own = kept.answers(job, subject, config, rows, folder)
    gc.collect()
    if job.device.startswith("cuda"):
        torch.cuda.empty_cache()
    return own


def _write_questions(
    job: WorkerJob,
    subject: ExportSubject,
    config: ModelExport,
    own: ReferenceAnswers,
    folder: ParityFolder,
    export: Path,
) -> None:
    """What the other process is told: the questions, and what of which form it reads."""
    own.asked["reader"] = file_form(config.form, config.gguf).reader
    own.asked["export"] = str(export)
    own.asked["base"] = subject.base(job) if (export / "adapter_config.json").exists() else None
    write_json(folder.questions, own.asked)


def _held(subject: ExportSubject, config: ModelExport) -> str:
    held = subject.config.held if subject.adapter and config.form != "adapter" else ""
    return HELD_TITLES[held] if held else ""


def interpreter(form: str) -> str:
    """The Python that reads the form: another environment's where its packages can't stand beside ours."""
    from engine.shipping.forms import compressed

    return compressed.interpreter() if form == "compressed-tensors" else sys.executable


def _apart(job: WorkerJob, folder: ParityFolder, python: str) -> ParityAnswers:
    """What the other process makes of the export. Cancelling ends it."""
    command = [python, "-m", "engine.shipping.parity", str(folder.path)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    report = PhaseReporter(job)
    last: deque[str] = deque(maxlen=LAST_LINES)
    job.progress(0, 1, "model", "Reading the export in another process")
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        assert process.stdout
        for line in process.stdout:
            if line.startswith('{"what"'):
                state = json.loads(line)
                report(state["done"], state["total"], "", state["what"])
            else:
                last.append(line.rstrip())
                print(line, end="", file=sys.stderr)
            job.check_cancelled()
        code = process.wait()
        job.check_cancelled()  # a signal to the group reaches the other process first
    except Cancelled:
        process.terminate()
        process.wait()
        raise
    answers: ParityAnswers | None = read_json(folder.answered)
    if code or answers is None:
        why = next((line for line in reversed(last) if line.strip()), f"exit code {code}")
        raise ModelError(
            f"The export can't be read in another process: {why[:300]}",
            fix="The job's log has its last lines; nothing was kept. Try another form.",
            field="form",
        )
    return answers
