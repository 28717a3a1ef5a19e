"""The parity check in the job's process: run the model, start the reader process, build the report.

The model's output on the checked rows is cached, so that all formats of a model are compared with the same
responses.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from engine.export import format_writers
from engine.export.export_subject import ExportSubject
from engine.export.external_tools import (
    COMPRESSOR,
    LAST_LINES,
    VLLM,
    ExternalEnvironment,
    build_process_error,
)
from engine.export.model_settings import ModelSettings
from engine.export.parity import parity_report
from engine.export.parity.exchange import MAX_TOP_TOKENS, ParityAnswers, ParityFolder, ParityReader
from engine.export.parity.inspection import ParityRows, choose_rows, find_gguf_file, inspect_files
from engine.export.parity.parity_report import compare_metrics
from engine.export.parity.reference import Reference, ReferenceAnswers
from engine.export.publication import compute_file_digest
from engine.models.hardware import read_versions
from engine.worker.job import JobCancelled, Phase, Phases, WorkerJob
from engine.worker.progress import PhaseReporter
from store.core.documents import parse_optional_document
from store.core.errors import ConfigError, ModelError
from store.core.export_schemas import ParityReport, WrittenWeights
from store.core.job_folder import read_json, write_json
from store.export.config import ModelExport, ParityTarget
from store.export.forms import COMPRESSED, get_file_form, get_limits
from store.training.methods import QUANTISATION_TITLES

# A cache folder is named by everything its content depends on: files of the model and of its base model,
# config, rows, precision, device and library versions. It is written to a temporary name and renamed; the
# oldest are removed beyond MAX_CACHED.

CACHE_VERSION = 5  # version of the cached content, part of the name
MAX_CACHED = 6
MAX_HASHED_BYTES = 64 * 2**20  # files up to this size are hashed; for larger ones size and time are compared
MODEL_FIELDS = ("model", "method", "load_in_4bit", "load_in_8bit", "dtype", "chat_template", "task")


def get_cached_answers(
    job: WorkerJob, subject: ExportSubject, config: ModelExport, rows: ParityRows, folder: ParityFolder
) -> ReferenceAnswers:
    """Return the model's output on these rows, with all files for the reader process in `folder`."""
    kept = job.home.cache / "parity" / _compute_cache_key(job, subject, config, rows)
    if (kept / folder.reference.name).exists():
        shutil.copytree(kept, folder.path, dirs_exist_ok=True)
        os.utime(kept)
        return ReferenceAnswers.read(folder.reference)
    job.progress(0, 1, "model", "Loading the model to compare")
    made = Reference(job, subject, config).ask(folder, rows)
    _store_in_cache(folder.path, kept)
    return made


def _compute_cache_key(job: WorkerJob, subject: ExportSubject, config: ModelExport, rows: ParityRows) -> str:
    base = Path(subject.base(job))
    facts = {
        "version": CACHE_VERSION,
        "likeliest": MAX_TOP_TOKENS,
        "model": _list_file_facts(subject.folder),
        "base": _list_file_facts(base) if base.is_dir() else str(base),
        "config": {field: getattr(subject.config, field) for field in MODEL_FIELDS},
        "data": job.spec["dataset"]["fingerprint"],
        "rows": hashlib.sha256(np.concatenate([rows.drawn, rows.longest]).tobytes()).hexdigest(),
        "drawn": len(rows.drawn),
        "max_new_tokens": config.max_new_tokens,
        "device": job.device,
        "versions": {**read_versions()},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _list_file_facts(folder: Path) -> list[list[object]]:
    """Return each file's name, and its checksum or size and time."""
    facts: list[list[object]] = []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        state = path.stat()
        small = state.st_size <= MAX_HASHED_BYTES
        facts.append([path.name, compute_file_digest(path) if small else [state.st_size, state.st_mtime_ns]])
    return facts


def _store_in_cache(made: Path, kept: Path) -> None:
    """Copy the folder into the cache; a full disk doesn't fail the job."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    aside = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        shutil.copytree(made, aside)
        os.rename(aside, kept)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
    others = sorted(
        (path for path in kept.parent.iterdir() if path.is_dir()), key=lambda p: p.stat().st_mtime
    )
    for old in others[:-MAX_CACHED]:
        shutil.rmtree(old, ignore_errors=True)


DEFAULT_ANSWER_TOKENS = 64  # response length for which the shares below were estimated
PROJECT = Path(__file__).resolve().parents[3]


def phases(config: ParityTarget) -> Phases:
    """Return the phases of a parity check: running the model, then the export in a separate process."""
    tokens = config.max_new_tokens / DEFAULT_ANSWER_TOKENS
    return (
        Phase("Comparing settings, tokenizer and tensors", 0.03),
        Phase(("Generating responses with the model", "Classifying rows with the model"), 0.45 * tokens),
        Phase("Scoring texts with the model", 0.12),
        Phase("Loading the export in a separate process", 0.1),
        Phase("Comparing distributions", 0.12),
        Phase(("Generating responses with the export", "Classifying rows with the export"), 0.07 * tokens),
    )


def check(
    job: WorkerJob,
    subject: ExportSubject,
    config: ModelExport,
    export: Path,
    aside: Path,
    written: WrittenWeights,
    *,
    known_causes: Sequence[str] = (),
    ask_differing: bool = True,
) -> tuple[ParityReport, list[str]]:
    """Compare `export`, a folder or a GGUF file, with its subject, and its tensors with those `written`.

    Returns the report and notices. known_causes: differences found already. ask_differing: also run some rows
    if the files differ, which loads the export. Raises ModelError if the reader process can't load it.
    """
    began = time.monotonic()
    folder = ParityFolder(aside / "parity")
    folder.path.mkdir()
    form = get_file_form(config.form, config.gguf)
    job.status("evaluating")
    seen = inspect_files(job, subject, config, export, written, aside)
    seen = replace(seen, causes=[*known_causes, *seen.causes], exact=seen.exact and not known_causes)
    if seen.causes and not ask_differing:
        return parity_report.build_unread_report(seen.causes, "", time.monotonic() - began), []
    file = find_gguf_file(export) if form.reader == "llama.cpp" else export
    rows = choose_rows(job, subject, config, seen)
    own = _answer_with_reference(job, subject, config, rows, folder)
    _write_questions(job, subject, config, own, folder, file)
    try:
        answered = _run_reader(job, folder, find_environment(own.asked.reader))
    except ModelError as error:
        if not seen.causes:
            raise
        return parity_report.build_unread_report(
            seen.causes, error.message, time.monotonic() - began
        ), rows.notices
    figures = compare_metrics(own, answered, job.home, folder.tokenizer, job.check_cancelled)
    held = subject.config.held if subject.adapter and config.form != "adapter" else ""
    report = parity_report.build_report(
        own,
        answered,
        get_limits(config.form, config.gguf),
        seen=seen,
        figures=figures,
        held=QUANTISATION_TITLES[held] if held else "",
        seconds=time.monotonic() - began,
    )
    return report, rows.notices


def _answer_with_reference(
    job: WorkerJob, subject: ExportSubject, config: ModelExport, rows: ParityRows, folder: ParityFolder
) -> ReferenceAnswers:
    """Return the model's output and free the model, as memory may not hold it and the export."""
    own = get_cached_answers(job, subject, config, rows, folder)
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
    """Write the input of the reader process: the questions, the engine, and the path of the export."""
    own.asked.reader = choose_engine(config, job.device)
    own.asked.export = str(export)
    own.asked.kl_fails = get_limits(config.form, config.gguf).kl[1]
    own.asked.base = subject.base(job) if (export / "adapter_config.json").exists() else None
    write_json(folder.questions, own.asked)


def choose_engine(config: ModelExport, device: str) -> ParityReader:
    """Return the engine that reads the export.

    compressed-tensors are read by vLLM if it is available and supports them; its CPU kernels support 8-bit
    weights only with 8-bit activations.
    """
    if config.reader == "vllm":
        return "vllm"
    if config.form in COMPRESSED:
        able = config.form == format_writers.W8A8 or device != "cpu"
        return "vllm" if VLLM.named() and able else "transformers alone"
    return get_file_form(config.form, config.gguf).reader


def check_reader(config: ModelExport, subject: ExportSubject, device: str) -> None:
    """Raise ConfigError if the engine is missing, or doesn't support this export."""
    if choose_engine(config, device) != "vllm":
        return
    VLLM.check()
    why = ""
    if subject.labels is not None:
        why = "classification heads are supported by transformers only"
    elif config.form == "adapter" and not _is_plain_lora(subject):
        why = "it supports only plain LoRA adapters"
    elif config.form == "compressed-tensors" and device == "cpu":
        why = f"it does not support this format on a CPU; {format_writers.W8A8} is supported"
    if why:
        raise ConfigError(f"vLLM can't load this export: {why}.", fix="Omit reader.", field="reader")


def _is_plain_lora(subject: ExportSubject) -> bool:
    settings: ModelSettings = read_json(subject.folder / "adapter_config.json") or {}
    more = any(settings.get(name) for name in ("use_dora", "modules_to_save", "rank_pattern"))
    return settings.get("peft_type") == "LORA" and settings.get("bias", "none") == "none" and not more


def find_environment(reader: ParityReader) -> ExternalEnvironment | None:
    """Return the environment of the engine, or None if it is this one."""
    return {"vllm": VLLM, "transformers alone": COMPRESSOR}.get(reader)


def _run_reader(job: WorkerJob, folder: ParityFolder, other: ExternalEnvironment | None) -> ParityAnswers:
    """Run the reader process and return its result. Cancelling the job terminates it."""
    version = other.check() if other else ""
    python = other.python() if other else sys.executable
    command = [python, "-m", "engine.export.parity", str(folder.path)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    report = PhaseReporter(job)
    last: deque[str] = deque(maxlen=LAST_LINES)
    job.progress(0, 1, "model", "Loading the export in a separate process")
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
        job.check_cancelled()  # a signal to the process group reaches the other process first
    except JobCancelled:
        process.terminate()
        process.wait()
        raise
    answers = parse_optional_document(ParityAnswers, read_json(folder.answered))
    if code or answers is None:
        if other:
            raise other.ended("could not load the export", code, list(last), version)
        raise build_process_error("The export can't be loaded in a separate process", code, list(last))
    return answers
