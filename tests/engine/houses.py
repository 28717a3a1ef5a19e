"""A home folder with a tiny model, its engine and the command line on it, for tests of whole ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from store.contract.home import Home
from store.http.client import Client
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
    path.write_text("\n".join(rows))


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
