"""A tiny base with two adapters, the worker over them, and a server of it in this process."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
import uvicorn
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from engine.serving.backend import bind_unix_socket
from engine.serving.protocol.app import Answerer, build
from store.serving.schemas import BackendSpec, ServedAdapter
from tests.tiny import make_tokenizer, write_model

LIVELY = {
    "initializer_range": 0.3,
    "max_position_embeddings": 512,
}  # else a tiny model says one letter for ever
ADAPTERS: dict[str, dict[str, Any]] = {
    "first": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]},
    "second": {"r": 8, "lora_alpha": 12, "target_modules": "all-linear"},
}


def write_models(folder: Path) -> Path:
    """The folder, with a base and its adapters in it."""
    write_model(folder / "base", **LIVELY)
    for number, (name, settings) in enumerate(ADAPTERS.items()):
        base = AutoModelForCausalLM.from_pretrained(folder / "base")
        model = get_peft_model(base, LoraConfig(**settings))
        torch.manual_seed(number)
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                parameter.data.normal_(0, 0.3)
        model.save_pretrained(str(folder / name))
    return folder


def spec_of(folder: Path, **fields: Any) -> BackendSpec:
    """What the worker over these models is told."""
    spec: Any = {
        "engine": "worker",
        "socket": str(folder / "s"),
        "model": str(folder / "base"),
        "home": str(folder / "home"),
        "adapters": [ServedAdapter(name=name, folder=str(folder / name)) for name in ADAPTERS],
        "names": ["base"],
        "dtype": "float32",
        "threads": 1,
        "max_streams": 8,
        "max_tokens": 4096,
        "context": None,
        "parent": os.getpid(),
        "labels": None,
    }
    return spec | fields


def by_transformers(folder: Path, name: str, prompt: list[int], tokens: int) -> list[int]:
    """What the model alone goes on with, greedily, by transformers and peft."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "base")
    if name != "base":
        model = PeftModel.from_pretrained(model, str(folder / name))
    ids = torch.tensor([prompt])
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
    )
    made: list[int] = out[0, len(prompt) :].tolist()
    return made


def chat_tokens(text: str) -> list[int]:
    """The prompt of one message of the user."""
    tokenizer = make_tokenizer()
    turns = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    tokens: list[int] = tokenizer(rendered, add_special_tokens=False).input_ids
    return tokens


@contextmanager
def server(answerer: Answerer, socket: str) -> Iterator[None]:
    """Inside, the backend answers at the socket."""
    config = uvicorn.Config(build(answerer), log_level="warning", lifespan="off")
    running = uvicorn.Server(config)
    running.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    listener = bind_unix_socket(socket)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve(sockets=[listener])))
    thread.start()
    try:
        yield
    finally:
        running.should_exit = True
        thread.join()


def client(socket: str) -> httpx.Client:
    """Of a backend at this socket."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://backend", timeout=60)


def events(response: httpx.Response) -> list[Any]:
    """The documents of a stream; its last event is the word that ends it."""
    events = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    return [json.loads(each) for each in events[:-1]]
