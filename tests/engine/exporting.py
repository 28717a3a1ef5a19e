"""A two-layer model with a tokenizer that llama.cpp can read, a run of it, and jobs that export it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.export.external_tools import ExternalEnvironment
from engine.export.parity import checking
from engine.export.parity.__main__ import main as read_apart
from engine.export.parity.exchange import ParityAnswers, ParityFolder
from engine.training import train_job
from engine.worker.job import WorkerJob
from store.core.documents import parse_document
from store.core.errors import ModelError
from store.core.home import Home
from store.core.job_folder import read_json, write_json
from store.export.config import ModelExport
from tests.engine.job_events import QUICK
from tests.export_samples import run_card
from tests.tiny import CHATML, SPECIAL, conversations, make_job, make_model, write_rows

MERGES = [("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("a", "n")]  # llama.cpp wants some


def make_merging_tokenizer(template: str = CHATML) -> Any:
    """As `tests.tiny.make_tokenizer`, with pairs that are joined."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL, *alphabet, *("".join(pair) for pair in MERGES)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=SPECIAL[1], eos_token=SPECIAL[2], unk_token=SPECIAL[0]
    )
    tokenizer.pad_token = SPECIAL[2]
    tokenizer.chat_template = template
    return tokenizer


def home_with_model(path: Path, template: str = CHATML) -> Home:
    """A home folder with the model "tiny" and 60 conversations, "rows"."""
    home = Home(path / "home").create()
    tokenizer = make_merging_tokenizer(template)
    model = make_model(vocab_size=len(tokenizer), initializer_range=0.2, rope_theta=50_000.0)
    model.save_pretrained(home.models / "tiny")
    tokenizer.save_pretrained(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    return home


def trained(home: Home, name: str = "run", **fields: Any) -> WorkerJob:
    """A run that has finished."""
    job = make_job(home, name, **(QUICK | {"probes": False, "max_steps": 3, "learning_rate": 1e-2} | fields))
    result = train_job.run(job)
    write_json(job.dir.result, {"status": "finished", "result": result})
    return job


def read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are read back in this process: another one takes ten seconds to begin."""

    def here(job: WorkerJob, folder: ParityFolder, other: ExternalEnvironment | None) -> ParityAnswers:
        try:
            read_apart(str(folder.path))
        except Exception as error:  # as the end of the other process would be told
            raise ModelError(f"The export can't be loaded in a separate process: {error}") from error
        return parse_document(ParityAnswers, read_json(folder.answered))

    monkeypatch.setattr(checking, "_run_reader", here)


def export_job(
    home: Home,
    form: str,
    *,
    run: str = "run",
    rows: str = "rows",
    card: dict[str, Any] | None = None,
    **fields: Any,
) -> WorkerJob:
    """The job that exports the run in this form. card: what the engine says of the run otherwise."""
    folder = home.jobs / f"{run}-{form}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    asked = {
        "subject": run,
        "form": form,
        "part": "all",
        "max_rows": 20,
        "max_new_tokens": 6,
        "dataset": rows,
    }
    order = {
        "job_id": folder.name,
        "kind": "model_export",
        "home": str(home.path),
        "device": "cpu",
        "attempt": 1,
        "resume": False,
        "config": ModelExport.parse(asked | fields).document(),
        "dataset": {
            **{"dataset_id": rows, "fingerprint": rows, "name": rows, "kind": "chat"},
            **{"format": "messages", "columns": {}, "signals": {}},
        },
        "split": {"split_seed": 0, "validation_size": 0.1, "test_size": 0.1},
        "export": {
            **{"run_id": run, "run_name": run, "version": None},
            "card": run_card(run, rows, **(card or {})),
        },
    }
    write_json(folder / "config.json", order)
    return WorkerJob(folder)
