"""A home folder with a tiny model, its engine and the command line on it, for tests of whole ways."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from store.core.home import Home
from store.http.client import Client
from store.monitoring.log_ingest import get_log_folder
from tests.tiny import write_model
from tunebench.cli import cli

RUN = """
name: First
model: tiny
dataset: Sums
dtype: float32
r: 4
num_train_epochs: 1
learning_rate: 0.005
evaluations: 2
probes: false
sample_prompts: 2
max_new_tokens: 4
early_stopping: false
"""


def write_sums(path: Path) -> None:
    """A file of 80 short questions with their answers."""
    rows = [json.dumps({"prompt": f"Number {i}?", "completion": f"It is {i % 4}"}) for i in range(80)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows))


def write_corrections(home: Home, endpoint: str, count: int, first: int = 0) -> None:
    """Requests that were answered, and what a person would rather have read."""
    folder = get_log_folder(home, endpoint)
    folder.mkdir(parents=True, exist_ok=True)
    about = {"endpoint_id": endpoint, "person_id": None}
    with (
        open(folder / "requests-000000.jsonl", "a") as log,
        open(folder / "feedback-000000.jsonl", "a") as words,
    ):
        for number in range(first, first + count):
            line = {
                **about,
                **{"request_id": f"r{number}", "at": time.time(), "kind": "chat", "model": "m"},
                **{"version": "sums@1", "role": "live", "user": None, "status": 200, "error": None},
                **{"prompt_tokens": 4, "completion_tokens": 2, "first_token_seconds": 0.1, "seconds": 0.2},
                **{"finish_reason": "stop", "mean_logprob": None, "label": None, "confidence": None},
                **{"abstained": False, "input_characters": 9, "output_characters": 4, "redacted": 0},
                "messages": [{"role": "user", "content": f"Which animal is named {number * 7919}?"}],
                **{"output": "No", "group": None},
            }
            log.write(json.dumps(line) + "\n")
            word = {**about, "feedback_id": f"f{number}", "request_id": f"r{number}", "at": time.time()}
            word |= {"kind": "correction", "value": None, "text": f"Animal {number % 4}", "comment": ""}
            words.write(json.dumps(word) + "\n")


class House:
    """A home folder, and the command line on it."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path).create()
        write_model(self.home.models / "tiny")

    def __call__(self, *arguments: str, code: int = 0) -> str:
        environment = {"TUNEBENCH_HOME": str(self.home.path), "TUNEBENCH_NO_SAMPLE": "1"}
        environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = CliRunner().invoke(cli, arguments, env=environment)
        assert done.exit_code == code, done.output
        return done.stdout or done.stderr

    @property
    def client(self) -> Client:
        """Of its engine, which a command has started."""
        return Client(self.home)

    def ask(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))
