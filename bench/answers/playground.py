"""The playground compared with plain transformers: first token, tokens per second, memory of adapters.

    python bench/answers/playground.py [--home FOLDER] [--tokens 96] [--rounds 7]
    [--device cpu|cuda:0] [--json FILE]

Plain transformers is `model.generate` with a streamer, in a separate process with the same threads,
weights and precision. Ours is the whole path through the engine: the generating process, probabilities and
alternatives of every token, JSON over its socket. The two alternate, so that other work on the machine
affects both; medians are compared. Memory is the generating process's, beyond what it had before it loaded
a model; its adapters are LoRA of rank 16 on all linear layers with random weights. Concurrent responses
are compared with the same responses in sequence.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # for both, as in workers

from bench.report import Figure, Section, as_json
from engine.playground.host_process import HostProcess
from engine.server.local_launcher import LocalLauncher, count_usable_cores
from store.core.home import Home
from store.core.job_folder import JobDir, write_json
from store.training.train_config import BUNDLED_MODEL, TrainConfig

PROMPT = "Explain in a few sentences how a bicycle stays upright, and why it is hard to ride one very slowly."
ADAPTERS = ("run-one", "run-two")


class Timed:
    """Times at which the tokens of a response arrived, in seconds from the request."""

    def __init__(self, times: list[float]) -> None:
        self.first = times[0]
        self.rate = (len(times) - 1) / (times[-1] - times[0])


def bare(pipe: Connection, source: str, tokens: int, device: str) -> None:
    """Respond to requests with the times of the tokens. Runs in a separate process."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.generation.streamers import BaseStreamer

    from engine.models.hardware import choose_dtype

    torch.set_num_threads(count_usable_cores())
    dtype = choose_dtype("auto", torch.device(device))
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype).to(device)
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    asked = [{"role": "user", "content": PROMPT}]

    class Stopwatch(BaseStreamer):
        def __init__(self) -> None:
            self.times: list[float] = []

        def put(self, value: torch.Tensor) -> None:
            if value.dim() == 1 and value.numel() == 1:  # not the prompt
                self.times.append(time.perf_counter())

        def end(self) -> None:
            pass

    while pipe.recv():
        watch, began = Stopwatch(), time.perf_counter()
        ids = tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(device)
        model.generate(
            **ids,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            streamer=watch,
            use_cache=True,
        )
        pipe.send([moment - began for moment in watch.times])


def order(tokens: int, **model: str) -> Any:
    sampling = {"max_new_tokens": tokens}
    messages = [{"role": "user", "content": PROMPT}]
    label = next(iter(model.values()))
    return {
        "do": "answer",
        "id": "",
        "model": {**model, "sampling": sampling},
        "label": label,
        "messages": messages,
    }


async def ours(process: HostProcess, asked: Any) -> list[float]:
    began, times = time.perf_counter(), []
    async for event in process.stream_answer(asked):
        if event["type"] == "token":
            times.append(time.perf_counter() - began)
        elif event["type"] == "failed":
            raise RuntimeError(event["error"]["message"])
    return times


def make_runs(home: Home) -> None:
    """Create two runs whose adapters have random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from engine.models import saved_models

    source = str(home.models / BUNDLED_MODEL)
    config = TrainConfig(model=BUNDLED_MODEL, dataset="none", method="lora", r=16).resolved(100, 10_000)
    for seed, name in enumerate(ADAPTERS):
        folder = JobDir(home.jobs / name)
        if (folder.model / "tunebench.json").exists():
            continue
        folder.path.mkdir(exist_ok=True)
        model: Any = AutoModelForCausalLM.from_pretrained(source)
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
        torch.manual_seed(seed)
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.01)
        saved_models.save_model(model, AutoTokenizer.from_pretrained(source), config, folder.model)
        order = {"job_id": name, "config": config.model_dump(), "dataset": {"fingerprint": "none"}}
        write_json(folder.config, order)


async def speed(process: HostProcess, pipe: Connection, tokens: int, rounds: int) -> list[Figure]:
    asked = order(tokens, model=BUNDLED_MODEL)
    measured: dict[str, list[Timed]] = {"bare": [], "ours": []}
    for number in range(rounds + 1):
        pipe.send(True)
        theirs = await asyncio.to_thread(pipe.recv)
        mine = await ours(process, asked)
        if number:  # the first is a warm-up
            measured["bare"].append(Timed(theirs))
            measured["ours"].append(Timed(mine))
    first = {name: statistics.median(run.first for run in runs) for name, runs in measured.items()}
    rate = {name: statistics.median(run.rate for run in runs) for name, runs in measured.items()}
    return [
        Figure("bare transformers: first token", 1000 * first["bare"], "ms"),
        Figure("playground: first token", 1000 * first["ours"], "ms"),
        Figure("first token, times bare transformers", first["ours"] / first["bare"], "", 1.2, "≤", 2),
        Figure("bare transformers: tokens a second", rate["bare"], "", digits=1),
        Figure("playground: tokens a second", rate["ours"], "", digits=1),
        Figure("tokens a second, times bare transformers", rate["ours"] / rate["bare"], "", 1.0, "≥", 2),
    ]


def held(process: HostProcess, device: str) -> int:
    """Return the memory of the generating process in bytes; its GPU memory if it runs on a GPU."""
    return (process.gpu_bytes if device.startswith("cuda") else process.measure_memory()) or 0


async def memory(process: HostProcess, device: str) -> list[Figure]:
    before = await _empty(process, device)
    taken = []
    for name in ADAPTERS:
        await ours(process, order(4, run=name))
        taken.append(held(process, device) - before)
    return [
        Figure("one adapter over its base", taken[0] / 2**20, "MiB"),
        Figure("two adapters over one base", taken[1] / 2**20, "MiB"),
        Figure("two adapters, times one", taken[1] / taken[0], "", 1.1, "≤", 3),
    ]


async def _empty(process: HostProcess, device: str) -> int:
    """Return the memory of the process without a model: a request for a missing run starts the process, and
    is then refused.
    """
    try:
        await ours(process, order(4, run="none"))
    except RuntimeError:
        return held(process, device)
    raise AssertionError("a run that is not there answered")


async def together(process: HostProcess, tokens: int, rounds: int) -> list[Figure]:
    """Compare concurrent responses of the base model and two adapters with the same in sequence."""
    asked = [order(tokens, model=BUNDLED_MODEL), *(order(tokens, run=name) for name in ADAPTERS)]
    for each in asked:
        await ours(process, each)
    at_once, in_turn, second = [], [], []
    for _ in range(max(1, rounds // 2)):
        began = time.perf_counter()
        times = await asyncio.gather(*(ours(process, each) for each in asked))
        at_once.append(time.perf_counter() - began)
        second.append(max(each[0] for each in times))
        began = time.perf_counter()
        for each in asked:
            await ours(process, each)
        in_turn.append(time.perf_counter() - began)
    return [
        Figure("three answers at once", statistics.median(at_once), "s", digits=2),
        Figure("  until the last of them began", statistics.median(second), "s", digits=2),
        Figure("three answers one after another", statistics.median(in_turn), "s", digits=2),
        Figure(
            "at once, times one after another",
            statistics.median(at_once) / statistics.median(in_turn),
            "",
            digits=2,
        ),
    ]


async def measure(home: Home, tokens: int, rounds: int, device: str) -> list[Section]:
    launcher = LocalLauncher()
    here, there = multiprocessing.get_context("spawn").Pipe()
    source = str(home.models / BUNDLED_MODEL)
    peer = multiprocessing.get_context("spawn").Process(target=bare, args=(there, source, tokens, device))
    peer.start()
    try:
        process = HostProcess(launcher, home, device)
        of_memory = await memory(process, device)
        sections = [
            Section("Speed, one answer", await speed(process, here, tokens, rounds)),
            Section("Memory", of_memory),
            Section("Several at once", await together(process, tokens, rounds)),
        ]
    finally:
        here.send(False)
        peer.join(30)
        launcher.close()
    return sections


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--home", type=Path, help="with the bundled model in it; else a new one is made")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(arguments.home or folder).create()
        from engine.models.bundled import ensure_bundled_model

        ensure_bundled_model(BUNDLED_MODEL, home)
        make_runs(home)
        sections = asyncio.run(measure(home, arguments.tokens, arguments.rounds, arguments.device))
    for section in sections:
        section.show()
    if arguments.json:
        arguments.json.write_text(as_json(sections))
    return int(bool(json.loads(as_json(sections))["missed"]))


if __name__ == "__main__":
    sys.exit(main())
