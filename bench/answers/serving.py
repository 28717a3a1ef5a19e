"""The worker behind an endpoint: throughput compared with `transformers serve`, and memory of adapters.

    python bench/answers/serving.py [--home FOLDER] [--streams 8] [--tokens 64] [--rounds 3]
    [--dtype …] [--json FILE] [--only SECTION] [--against CHECKOUT [--threads N]]

Both servers get the same prompts, greedily, `streams` requests at once, alternately, so that other work on
the machine affects both; medians are compared. Both have the same threads, weights and precision.
`transformers serve` is measured with its defaults, and with `--continuous-batching` and a cache for 8,192
tokens if that starts (its default cache fills the machine's memory and makes it slow). "Same answers" are
responses equal as whole texts. It needs transformers' extra `serving`; a folder with fastapi may be on
PYTHONPATH.

Memory is the process's own (without shared file pages) after it has responded with each model: with one
adapter, and with eight; adapters are LoRA of rank 16 on all linear layers, with random weights.

With `--against` the worker of another checkout of this project alternates with this one's, and nothing
else is measured: the cost of a change, independent of other work on the machine. Intervals are those of
the median of the rounds' ratios, at 95%.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import httpx
import psutil
from scipy.stats import binom

from bench.report import Figure, Section, as_json
from engine.models.bundled import ensure_bundled_model
from engine.server.local_launcher import count_usable_cores
from store.core.home import Home
from store.core.job_folder import read_json, write_json
from store.training.train_config import BUNDLED_MODEL

PROMPTS = (
    "Explain in a few sentences how a bicycle stays upright.",
    "Name five vegetables and say when they are planted.",
    "Write a short story about a lighthouse keeper and a storm.",
    "What is the difference between a lake and a sea?",
    "Give three reasons to learn a second language.",
    "How is bread made? List the steps.",
    "Describe the smell of rain to somebody who never smelled it.",
    "Why do leaves change their colour in autumn?",
)
ROOT = Path(__file__).resolve().parents[2]
FASTER, MEMORY = 1.5, 1.2
CONTINUOUS = 1.0  # at least as fast as continuous batching
SMALL_CACHE = ("--cb-block-size", "32", "--cb-num-blocks", "256")  # the default takes most of the memory
SECONDS = 600.0


class Asked:
    """A server that receives chat completion requests."""

    def __init__(self, process: subprocess.Popen[bytes], http: httpx.Client, model: str) -> None:
        self.process, self.http, self.model = process, http, model

    def answer(self, prompt: str, tokens: int, model: str = "") -> tuple[str, int]:
        """Return the text of a response and its number of tokens."""
        body: dict[str, Any] = {
            "model": model or self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
        }
        answer = self.http.post("/v1/chat/completions", json=body)
        answer.raise_for_status()
        document = answer.json()
        return document["choices"][0]["message"]["content"], document["usage"]["completion_tokens"]

    def together(self, streams: int, tokens: int) -> tuple[list[str], float]:
        """Return the responses to `streams` concurrent requests, and the total tokens per second."""
        asked = [PROMPTS[number % len(PROMPTS)] for number in range(streams)]
        began = time.perf_counter()
        with ThreadPoolExecutor(streams) as threads:
            answers = list(threads.map(lambda prompt: self.answer(prompt, tokens), asked))
        seconds = time.perf_counter() - began
        return [text for text, _ in answers], sum(count for _, count in answers) / seconds

    def memory(self) -> float:
        """Return the process's own memory (USS), in MiB."""
        return psutil.Process(self.process.pid).memory_full_info().uss / 2**20

    def processor_seconds(self) -> float:
        """Return the processor time used so far, in seconds."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def stop(self) -> None:
        """Stop the server."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def worker(
    source: Path,
    folder: Path,
    dtype: str,
    adapters: list[Path],
    streams: int,
    checkout: Path = ROOT,
    threads: int = 0,
) -> Asked:
    """Start this project's worker, or that of another checkout, with a base model and adapters; 0 threads:
    one per core.
    """
    folder.mkdir()
    names = [{"name": path.name, "folder": str(path)} for path in adapters]
    spec = {
        "engine": "worker",
        "socket": str(folder / "s"),
        "model": str(source),
        "home": str(folder),
        "adapters": names,
        "names": ["base"],
        "dtype": dtype,
        "threads": threads or count_usable_cores(),
        "max_streams": streams,
        "max_tokens": 32_768,
        "context": None,
        "parent": os.getpid(),
        "labels": None,
    }
    write_json(folder / "spec.json", spec)
    command = [sys.executable, "-m", "engine.serving.backend", str(folder / "spec.json")]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}
        )
    _wait(process, lambda: read_json(folder / "ready.json") is not None, folder / "log")
    http = httpx.Client(
        transport=httpx.HTTPTransport(uds=str(folder / "s")), base_url="http://worker", timeout=SECONDS
    )
    return Asked(process, http, "base")


def transformers_serve(source: Path, folder: Path, dtype: str, *more: str) -> Asked:
    """Start transformers' own server. Raises RuntimeError if it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(source)]
    command += ["--port", str(port), "--host", "127.0.0.1", "--dtype", dtype, "--device", "cpu", *more]
    threads = {"OMP_NUM_THREADS": str(count_usable_cores())}
    log_path = folder / f"transformers{len(more)}.log"
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | threads)
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS)

    def answers() -> bool:
        try:
            return http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    _wait(process, answers, log_path)
    return Asked(process, http, str(source))


def _wait(process: subprocess.Popen[bytes], ready: Any, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it did not start: {log.read_text(errors='replace')[-800:]}")
        time.sleep(0.2)


def started(source: Path, folder: Path, asked: argparse.Namespace) -> dict[str, Asked]:
    """Start the servers and wait until each has responded. transformers' continuous batching is skipped, with
    a message, if it does not respond on this machine.
    """
    ours = worker(source, folder / "throughput", asked.dtype, [], asked.streams)
    servers = {"ours": ours, "transformers": transformers_serve(source, folder, asked.dtype)}
    for server in servers.values():
        server.answer(PROMPTS[0], 4)
    try:
        batching = transformers_serve(source, folder, asked.dtype, "--continuous-batching", *SMALL_CACHE)
    except RuntimeError as error:
        print(f"transformers serve --continuous-batching: {error}", file=sys.stderr)
        return servers
    try:
        batching.answer(PROMPTS[0], 4)
        servers["continuous"] = batching
    except httpx.HTTPError as error:
        print(f"transformers serve --continuous-batching does not answer: {error}", file=sys.stderr)
        batching.stop()
    return servers


@contextmanager
def alone(server: Asked, servers: Iterable[Asked]) -> Iterator[None]:
    """Suspend the other servers, as one that waits for requests may use the processor all the time."""
    others = [other for other in servers if other is not server]
    for other in others:
        other.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            other.process.send_signal(signal.SIGCONT)


def throughput(source: Path, folder: Path, asked: argparse.Namespace) -> Section:
    """Measure the servers alternately."""
    servers = started(source, folder, asked)
    rates: dict[str, list[float]] = {name: [] for name in servers}
    texts: dict[str, list[str]] = {}
    try:
        for _ in range(asked.rounds):
            for name, server in servers.items():
                with alone(server, servers.values()):
                    texts[name], rate = server.together(asked.streams, asked.tokens)
                rates[name].append(rate)
    finally:
        for server in servers.values():
            server.stop()
    medians = {name: statistics.median(each) for name, each in rates.items()}
    same = sum(a == b for a, b in zip(texts["ours"], texts["transformers"], strict=True))
    figures = [
        Figure("ours", medians["ours"], "tokens/s", digits=1),
        Figure("transformers serve", medians["transformers"], "tokens/s", digits=1),
        Figure("ours over it", medians["ours"] / medians["transformers"], "times", FASTER, digits=2),
        Figure("same answers", 100 * same / asked.streams, "%"),
    ]
    if "continuous" in medians:
        batching = medians["continuous"]
        figures.append(Figure("transformers serve, continuous batching", batching, "tokens/s", digits=1))
        figures += _ratios("ours over that", [rates["ours"], rates["continuous"]], CONTINUOUS)
    return Section(f"{asked.streams} streams at once, {asked.dtype}, {count_usable_cores()} cores", figures)


def against(source: Path, folder: Path, asked: argparse.Namespace) -> Section:
    """Compare this worker with that of another checkout, alternating and swapping their order."""
    servers = [
        worker(source, folder / name, asked.dtype, [], asked.streams, checkout, asked.threads)
        for name, checkout in (("this", ROOT), ("that", asked.against.resolve()))
    ]
    rates: list[list[float]] = [[], []]
    spent: list[list[float]] = [[], []]
    try:
        for server in servers:
            server.together(asked.streams, asked.tokens)
        for number in range(asked.rounds):
            for place in (0, 1) if number % 2 else (1, 0):
                server, before = servers[place], servers[place].processor_seconds()
                rates[place].append(server.together(asked.streams, asked.tokens)[1])
                spent[place].append(server.processor_seconds() - before)
    finally:
        for server in servers:
            server.stop()
    figures = [
        Figure("this checkout", statistics.median(rates[0]), "tokens/s", digits=1),
        Figure("the other", statistics.median(rates[1]), "tokens/s", digits=1),
        *_ratios("this over the other", rates),
        *_ratios("processor time for the same answers, this over the other", spent),
    ]
    return Section(f"{asked.streams} streams, {asked.dtype}, {asked.rounds} rounds in turns", figures)


def _ratios(name: str, pairs: list[list[float]], least: float | None = None) -> list[Figure]:
    """Return the median of the rounds' ratios with its 95% interval (the whole range for fewer than six
    rounds).
    """
    ratios = sorted(here / there for here, there in zip(*pairs, strict=True))
    rank = max(1, int(binom.ppf(0.025, len(ratios), 0.5)))
    return [
        Figure(name, statistics.median(ratios), "times", least, digits=3),
        Figure("from", ratios[rank - 1], "times", digits=3),
        Figure("to", ratios[-rank], "times", digits=3),
    ]


def write_adapters(source: Path, folder: Path, count: int) -> list[Path]:
    """Write LoRA adapters of rank 16 on all linear layers with random weights, each to its own folder."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16),
        LoraConfig(r=16, lora_alpha=16, target_modules="all-linear"),
    )
    folders = []
    for number in range(count):
        torch.manual_seed(number)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(0, 0.01)
        folders.append(folder / f"adapter{number}")
        model.save_pretrained(str(folders[-1]))
    return folders


def adapters(source: Path, folder: Path, asked: argparse.Namespace) -> Section:
    """Measure the memory with one adapter and with eight."""
    folders = write_adapters(source, folder, 8)
    held = {}
    for count in (1, 8):
        server = worker(source, folder / f"adapters{count}", asked.dtype, folders[:count], asked.streams)
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(lambda path, s=server: s.answer(PROMPTS[0], 8, path.name), folders[:count]))
        held[count] = server.memory()
        server.stop()
    figures = [
        Figure("one adapter", held[1], "MiB"),
        Figure("eight adapters", held[8], "MiB"),
        Figure("eight over one", held[8] / held[1], "times", MEMORY, "≤", digits=2),
    ]
    return Section(f"Memory of adapters over one base, {asked.dtype}", figures)


SECTIONS = {"throughput": throughput, "adapters": adapters}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--only", choices=SECTIONS, action="append")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--threads", type=int, default=0, help="of the workers of --against")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    sections = []
    with tempfile.TemporaryDirectory() as scratch:
        home = Home(asked.home or Path(scratch) / "home").create()
        source = ensure_bundled_model(BUNDLED_MODEL, home)
        chosen = [SECTIONS[name] for name in asked.only or SECTIONS]
        for section in [against] if asked.against else chosen:
            sections.append(section(Path(source), Path(scratch), asked))
            sections[-1].show()
    document = as_json(sections)
    if asked.json:
        asked.json.write_text(document)
    return 1 if json.loads(document)["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
