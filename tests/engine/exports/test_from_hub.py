"""A model of a hub is tuned, pushed, and loaded from there by the code of its card, on a machine that has
nothing of it: base and adapter come from the hub, the base at the commit that was trained on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from tests.engine.exporting import make_merging_tokenizer
from tests.engine.exports.hub_readers import BASE, PUSHED, logits
from tests.engine.exports.hub_stub import TOKEN, HubStub, running
from tests.tiny import make_model

BASE_CARD = "---\nlicense: apache-2.0\nlanguage:\n- en\n- de\ntags:\n- secret\n---\n# tiny\n"
TOOLS = "{{ messages[0]['content'] }} with tools"
PROJECT = Path(__file__).parents[3]


def files_of_base(folder: Path, seed: int) -> dict[str, bytes]:
    """A model with two chat templates, as a hub has it."""
    tokenizer = make_merging_tokenizer()
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": TOOLS}
    make_model(seed=seed, vocab_size=len(tokenizer), initializer_range=0.2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(BASE_CARD)
    (folder / "vocab.json").write_text('{"the vocabulary": "as other libraries read it"}')
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@dataclass
class Round:
    hub: HubStub
    folder: Path
    commit: str  # of the base, that was trained on

    def run(self, machine: str, *arguments: str) -> None:
        """In a process with a cache of its own, and nothing but the hub beside it."""
        environment = os.environ | {
            **{"HF_ENDPOINT": self.hub.address, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"},
            **{"HF_HOME": str(self.folder / machine), "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(PROJECT)},
        }
        command = [sys.executable, "-m", "tests.engine.exports.hub_readers", *arguments]
        ran = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-3_000:]

    @property
    def pushed(self) -> dict[str, bytes]:
        return list(self.hub.commits[PUSHED].values())[-1]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Round]:
    """A run on the hub's model, whose adapter was pushed; since then the base's main is another model."""
    folder = tmp_path_factory.mktemp("from-hub")
    with running() as hub:
        commit = hub.publish(BASE, files_of_base(folder / "first", seed=0))
        made = Round(hub, folder, commit)
        made.run("trainer", "train", str(folder))
        hub.publish(BASE, files_of_base(folder / "second", seed=9))
        yield made


def test_the_cards_code_loads_it_from_the_hub_on_the_commit_that_was_trained_on(pushed: Round) -> None:
    settings = json.loads(pushed.pushed["adapter_config.json"])
    assert (settings["base_model_name_or_path"], settings["revision"]) == (BASE, pushed.commit)
    pushed.run("reader", "load", str(pushed.folder))
    trained = torch.load(pushed.folder / "trained.pt")
    assert torch.allclose(torch.load(pushed.folder / "loaded.pt"), trained, atol=1e-5)
    text = pushed.pushed["README.md"].decode()
    assert f'AutoPeftModelForCausalLM.from_pretrained("{PUSHED}")' in text


def test_further_chat_templates_and_vocabularies_of_the_base_go_along(pushed: Round) -> None:
    assert pushed.pushed["additional_chat_templates/tool_use.jinja"].decode() == TOOLS
    assert (pushed.folder / "tools.txt").read_text() == TOOLS  # as the reader's tokenizer has it
    assert b"as other libraries read it" in pushed.pushed["vocab.json"]


def test_the_pushed_card_states_what_the_base_states_and_nothing_else(pushed: Round) -> None:
    text = pushed.pushed["README.md"].decode()
    head = ModelCard(text).data
    assert (head.base_model, head.license, head.language) == (BASE, "apache-2.0", ["en", "de"])
    assert head.to_dict()["base_model_relation"] == "adapter"
    assert "secret" not in head.tags
    assert f"revision `{pushed.commit}`" in text
    everything = b"".join(pushed.pushed.values())
    assert str(pushed.folder).encode() not in everything


def test_an_export_after_the_hubs_model_changed_is_of_the_commit_that_was_trained_on(pushed: Round) -> None:
    pushed.run("trainer", "export", str(pushed.folder), "merged")
    folder = next((pushed.folder / "home" / "exports").glob("run-merged"))
    merged = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.allclose(logits(merged), torch.load(pushed.folder / "trained.pt"), atol=1e-4)
    assert ModelCard.load(folder / "README.md").data.to_dict()["base_model_relation"] == "finetune"
