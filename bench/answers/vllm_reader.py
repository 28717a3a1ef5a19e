"""vLLM as the real reader of exports: correct full weights, and the same damaged in three ways.

    python bench/answers/vllm_reader.py EXPORT KEPT [--rows 8]

EXPORT is the folder of a merged export (form merged-f32), KEPT one of the folders in the home folder's
cache/parity, which has its model's output. TUNEBENCH_VLLM names the environment. Each reading loads vLLM
again; the last line of each is the result that the check would get.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engine.export.external_tools import VLLM
from engine.export.parity.checking import PROJECT
from engine.export.parity.exchange import ParityAnswers, ParityFolder, ParityQuestions, ParityTexts
from store.core.documents import parse_document
from store.core.job_folder import read_json, write_json

ROPE, MATRIX = 10_000.0, "model.layers.3.mlp.down_proj.weight"


def nothing(folder: Path) -> None:
    """Leave the export unchanged."""


def template(folder: Path) -> None:
    """Change one word in the chat template."""
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("<|im_start|>", "<|im_start|> "))
    settings = folder / "tokenizer_config.json"
    write_json(settings, read_json(settings) | {"chat_template": file.read_text()})


def zeroed(folder: Path) -> None:
    """Set all values of one matrix to zero."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights[MATRIX].zero_()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def rope(folder: Path) -> None:
    """Change the base of the rotary position embeddings."""
    settings = read_json(folder / "config.json")
    settings["rope_parameters"]["rope_theta"] = settings["rope_theta"] = ROPE
    write_json(folder / "config.json", settings)


SPOILS: tuple[Callable[[Path], None], ...] = (nothing, template, zeroed, rope)


def few(asked: ParityQuestions, rows: int) -> ParityQuestions:
    """Keep only the first rows, and one long text."""

    def cut(texts: ParityTexts, count: int) -> ParityTexts:
        return ParityTexts(ids=texts.ids[:count], places=texts.places[:count])

    return replace(
        asked, row_ids=asked.row_ids[:rows], contents=asked.contents[:rows], rendered=asked.rendered[:rows],
        prompt_ids=asked.prompt_ids[:rows], answers=cut(asked.answers, rows), rows=cut(asked.rows, rows),
        rows_of=asked.rows_of[:rows], joined=cut(asked.joined, 1), drawn=min(rows, asked.drawn),
        max_new_tokens=8,
    )  # fmt: skip


def read(export: Path, kept: Path, rows: int) -> ParityAnswers:
    """Return vLLM's output for the folder."""
    with tempfile.TemporaryDirectory() as aside:
        folder = ParityFolder(Path(aside))
        shutil.copytree(kept, aside, dirs_exist_ok=True)
        asked = few(parse_document(ParityQuestions, read_json(folder.reference)["asked"]), rows)
        asked.reader, asked.export, asked.base = "vllm", str(export), None
        write_json(folder.questions, asked)
        environment = os.environ | {"PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
        command = [VLLM.python(), "-m", "engine.export.parity", aside]
        subprocess.run(command, env=environment, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        return parse_document(ParityAnswers, read_json(folder.answered))


def mean(rows: list[list[float] | None]) -> float | None:
    some = [value for row in rows for value in row or ()]
    return float(np.mean(some)) if some else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("export", type=Path)
    parser.add_argument("kept", type=Path)
    parser.add_argument("--rows", type=int, default=8)
    asked = parser.parse_args()
    for spoil in SPOILS:
        with tempfile.TemporaryDirectory() as aside:
            export = Path(aside) / "export"
            shutil.copytree(asked.export, export)
            spoil(export)
            answered = read(export, asked.kept, asked.rows)
        figures = {
            "other_bytes": answered.rendering.other_bytes,
            "zeroed": answered.zeroed,
            "rope_base": answered.rope_base,
            "mean_kl": mean(answered.kl),
            "long_kl": mean([*answered.joined_kl]),
        }
        print(spoil.__name__, answered.engine, json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
