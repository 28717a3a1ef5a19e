"""Malicious files, or files written by broken software, through the form's inspection and the import.

Each is read in its own process with a limit of memory and time. It passes if the result is a data set
whose rows and skipped rows together are those of the file, or a sentence that names the problem.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import random
import resource
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.hostility import Attempt
from bench.made.odd_rows import odd_rows
from bench.made.odd_tables import odd_tables
from engine.data import import_job, source_inspection
from engine.data.readers.file_rows import ALIASES
from engine.worker.job import WorkerJob
from store.core.errors import TunebenchError
from store.core.home import Home

SECONDS = 60  # for inspection and import together
MEMORY = 6 * 1024**3  # bytes of address space beyond the parent process's
WORDS = (
    *(
        "text",
        "label",
        "prompt",
        "completion",
        "question",
        "answer",
        "true",
        "null",
        "0",
        "1",
        "-1",
        "a",
        "b",
    ),
    *(",", ";", "|", "\t", '"', "'", "\\", "{", "}", "[", "]", ":", "ü", "漢", "🙂", ""),
)


@dataclass(frozen=True)
class Hostile:
    """A file: its name, its content or the function that writes it, and its number of rows if known."""

    name: str
    content: bytes | Callable[[Path], None]
    rows: int | None = None


def attempts(seed: int, folder: Path) -> list[Attempt]:
    """Try every file in turn; the same seed writes the same files."""
    rng = random.Random(seed)
    home = Home(folder / "home")
    home.create()
    files = folder / "files"
    files.mkdir()
    return [_attempt(home, files / f"{number:03d}", hostile) for number, hostile in enumerate(_hostile(rng))]


def _hostile(rng: random.Random) -> Iterator[Hostile]:
    for make in (
        *(_empty, _encodings, _gzip, _deep, _wide, _huge, _ragged, _quotes, _json, _special, _names, _marks),
        *(_rows, _parquet, _noise),
    ):
        yield from make(rng)


def _attempt(home: Home, folder: Path, hostile: Hostile) -> Attempt:
    folder.mkdir()
    path = folder / hostile.name
    if callable(hostile.content):
        hostile.content(path)
    else:
        path.write_bytes(hostile.content)
    label = f"{folder.name} {hostile.name!r}"
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_meet, args=(home, path, hostile.rows, sender))
    process.start()
    sender.close()
    answer = "no answer: the process ended"
    if receiver.poll(SECONDS):
        with suppress(EOFError):
            answer = receiver.recv()
    else:
        answer = f"no answer in {SECONDS} s"
    process.kill()
    process.join()
    return Attempt(label, answer)


def _meet(home: Home, path: Path, rows: int | None, sender: Connection) -> None:
    """Read the file with a memory limit and send the failure; empty if it was handled safely."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    failure = ""
    for kind, work in (("inspect", source_inspection.run), ("import", import_job.run)):
        failure = failure or _work(home, path, kind, work, rows)
    sender.send(failure)


def _work(
    home: Home, path: Path, kind: str, work: Callable[[WorkerJob], dict[str, Any]], rows: int | None
) -> str:
    folder = home.jobs / f"{kind}-{path.parent.name}"
    folder.mkdir()
    config: dict[str, Any] = {"source": {"path": str(path)}}
    config |= {"name": path.parent.name} if kind == "import" else {}
    order = {"job_id": folder.name, "kind": kind, "home": str(home.path), "config": config}
    (folder / "config.json").write_text(json.dumps(order))
    try:
        result = work(WorkerJob(folder))
        json.dumps(result, allow_nan=False).encode()
    except TunebenchError as error:
        return (
            ""
            if error.message.strip() and len(error.message) < 2000
            else f"{kind}: says {error.message!r:.200}"
        )
    except BaseException:  # noqa: BLE001 (a traceback is what is looked for)
        return f"{kind}: {' | '.join(traceback.format_exc().splitlines()[-3:])[:500]}"
    if kind == "inspect":
        return ""
    counted = result["row_count"] + result["skipped_count"]
    stored = pq.read_metadata(home.rows(result["fingerprint"])).num_rows
    stored += pq.read_metadata(home.skipped(result["fingerprint"])).num_rows
    if counted != stored:
        return f"says {counted} rows, stores {stored}"
    return "" if rows in (None, counted) else f"{counted} of {rows} rows are accounted for"


# -- building blocks -----------------------------------------------------------------------------------


def _empty(rng: random.Random) -> Iterator[Hostile]:
    for ending in ("csv", "tsv", "json", "jsonl", "parquet", "txt", "gz", ""):
        for content in (b"", b"\n", b"\xef\xbb\xbf", b" \t\r\n" * 50, b"\0", b"\xff\xfe"):
            yield Hostile(f"empty.{ending}".rstrip("."), content)


def _encodings(rng: random.Random) -> Iterator[Hostile]:
    line = '{"prompt": "Grüße 漢 🙂", "completion": "ja"}'
    for codec in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7"):
        yield Hostile("a.jsonl", "\n".join([line] * 20).encode(codec))
        yield Hostile("a.csv", ("prompt,completion\n" + "ü,ß\n" * 20).encode(codec))
    yield Hostile("odd.jsonl", "\n".join([line] * 20).encode("utf-16")[:-1])
    for _ in range(20):  # bytes invalid in any encoding, in the middle of lines
        lines = [line.encode() for _ in range(30)]
        for place in rng.sample(range(1, 30), 5):
            at = rng.randrange(len(lines[place]))
            lines[place] = lines[place][:at] + bytes([rng.randrange(128, 256)]) + lines[place][at:]
        yield Hostile("broken.jsonl", b"\n".join(lines), 30)
    for newline in ("\r", "\r\n", "\n\r", "\n", "\u2028", "\x85", "\x0b", "\x0c"):
        rows = [f"row {n},x" for n in range(20)]
        yield Hostile("lines.csv", ("text,label" + newline + newline.join(rows)).encode())
    mixed = "text,label\r\na,x\rb,y\nc,z\r\n" * 10
    yield Hostile("mixed.csv", mixed.encode())
    for place in range(6):
        yield Hostile("nul.csv", b"text,label\n" + b"a\0b,x\n" * 5 + b"\0" * place + b"\nc,y\n")
        yield Hostile("nul.jsonl", b'{"text": "a\\u0000b"}\n' * 5 + b"\0" * place + b"\n")


def _gzip(rng: random.Random) -> Iterator[Hostile]:
    def bomb(unit: bytes, mebibytes: int) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            with gzip.open(path, "wb", compresslevel=9) as file:
                for _ in range(mebibytes):
                    file.write(unit * (2**20 // len(unit)))

        return write

    yield Hostile("zeros.csv.gz", bomb(b"\0", 512))
    yield Hostile("one_line.jsonl.gz", bomb(b"a", 512))
    yield Hostile("open_text.json.gz", bomb(b'[{"text": "', 64))
    yield Hostile("newlines.txt.gz", bomb(b"\n", 512))
    whole = gzip.compress(b'{"text": "a"}\n' * 1000)
    for cut in (1, 10, len(whole) // 2, len(whole) - 1):
        yield Hostile("cut.jsonl.gz", whole[:cut])
    yield Hostile("tail.jsonl.gz", whole + b"garbage after the end")
    yield Hostile("twice.jsonl.gz", gzip.compress(whole))
    yield Hostile("joined.jsonl.gz", whole + whole, 2000)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    yield Hostile("flipped.jsonl.gz", bytes(flipped))


def _deep(rng: random.Random) -> Iterator[Hostile]:
    for opening, closing in (("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")):
        for depth in (50, 900, 100_000):
            nested = opening * depth + "1" + closing * depth
            yield Hostile("deep.json", nested.encode())
            yield Hostile("deep.jsonl", f'{{"text": "t"}}\n{{"text": {nested}}}\n'.encode(), 2)
            yield Hostile("inside.json", f'[{{"text": "t", "x": {nested}}}]'.encode())


def _wide(rng: random.Random) -> Iterator[Hostile]:
    for count in (1000, 4096, 10_000):
        names = [f"c{n}" for n in range(count)]
        yield Hostile("wide.csv", (",".join(names) + "\n" + ",".join(["x"] * count) + "\n").encode())
        yield Hostile("wide.jsonl", json.dumps(dict.fromkeys(names, "x")).encode() * 1)
        yield Hostile("same.csv", (",".join(["x"] * count) + "\n" + ",".join(["y"] * count) + "\n").encode())
        yield Hostile("commas.csv", (("," * count) + "\n").encode() * 5)
    keys = "\n".join(json.dumps({f"k{n}": "v", "text": "t"}) for n in range(5000))
    yield Hostile("new_keys.jsonl", keys.encode(), None)


def _huge(rng: random.Random) -> Iterator[Hostile]:
    text = "word " * 5_000_000
    yield Hostile("huge.csv", f"text,label\na,x\n{text},y\nb,z\n".encode(), 3)
    yield Hostile("huge.jsonl", f'{{"text": "a"}}\n{{"text": "{text}"}}\n{{"text": "b"}}'.encode(), 3)
    yield Hostile("huge.json", f'[{{"text": "a"}}, {{"text": "{text}"}}]'.encode())
    yield Hostile("huge.txt", ("a\n\n" + text + "\n\nb\n").encode(), 3)
    yield Hostile("short.txt", b"\n" * 3_000_000 + b"a")
    yield Hostile("lines.jsonl", b"{}\n" * 300_000)


def _ragged(rng: random.Random) -> Iterator[Hostile]:
    for _ in range(40):
        delimiter = rng.choice(",;\t|")
        lines = [
            delimiter.join(rng.choice("abc") * rng.randint(0, 3) for _ in range(rng.randint(1, 6)))
            for _ in range(40)
        ]
        header = delimiter.join(rng.choice(["text", "text", "label", "", " ", "x"]) for _ in range(3))
        yield Hostile("ragged.csv", "\n".join([header, *lines]).encode())


def _quotes(rng: random.Random) -> Iterator[Hostile]:
    yield Hostile("unclosed.csv", b"text,label\n" + b'"open,x\n' * 30_000)
    yield Hostile("odd_quotes.csv", b"text,label\n" + b'a"b"",c\n"a""",""""\n' * 5000)
    for _ in range(30):
        body = "".join(rng.choice(['"', ",", "\n", "a", '""', "\r\n"]) for _ in range(400))
        yield Hostile("quotes.csv", ("text,label\n" + body).encode())


def _json(rng: random.Random) -> Iterator[Hostile]:
    good = '{"text": "a"}'
    for value in (
        *(
            "NaN",
            "Infinity",
            "1e999999",
            "9" * 5000,
            "-0",
            "true",
            "null",
            '"\\ud800"',
            '"\\u0000"',
            "[]",
            "{}",
        ),
        *(
            '{"": 1}',
            '{"a": 1, "a": 2}',
            '{"text": NaN}',
            '{"text": 1e400}',
            '{"text": "\\ud83d"}',
            "1 2",
            "'a'",
        ),
    ):
        yield Hostile("odd.jsonl", f"{good}\n{value}\n{good}\n".encode(), 3)
        yield Hostile("odd.json", f"[{good}, {value}]".encode())
        yield Hostile("alone.json", value.encode())
    for text in (
        "[",
        "[{",
        '[{"text": "a"}',
        '[{"text": "a"},',
        "[]",
        "[[]]",
        "[1]",
        '{"a": [}',
        '{"a": {"b": [',
    ):
        yield Hostile("cut.json", text.encode())
    document = json.dumps({"a": {"b": [{"text": "t"}] * 20, "c": {"d": [1]}}, "train": [{"text": "u"}]})
    for _ in range(30):
        at = rng.randrange(len(document))
        yield Hostile("bitten.json", (document[:at] + rng.choice(WORDS) + document[at + 1 :]).encode())


def _special(rng: random.Random) -> Iterator[Hostile]:
    yield Hostile("pipe.csv", os.mkfifo)
    yield Hostile("socket.csv", _bind)
    yield Hostile("folder.csv", Path.mkdir)
    yield Hostile("many", _many)
    yield Hostile("pipes", lambda path: (path.mkdir(), os.mkfifo(path / "a.csv"))[0])
    for target in ("/dev/zero", "/dev/random", "/proc/self/mem", "/proc/self/environ", "/nowhere", "."):
        yield Hostile("link.csv", lambda path, target=target: path.symlink_to(target))
    yield Hostile("circle.csv", lambda path: path.symlink_to(path.name))


def _bind(path: Path) -> None:
    place = os.getcwd()
    os.chdir(path.parent)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(place)


def _many(path: Path) -> None:
    path.mkdir()
    for number in range(300):
        (path / f"{number}.jsonl").write_text('{"text": "a"}\n')


def _names(rng: random.Random) -> Iterator[Hostile]:
    for name in (
        "new\nline.csv",
        "-rf.csv",
        "ü漢🙂.csv",
        "x" * 200 + ".csv",
        "a b'\"<>.csv",
        "$(x).csv",
        "\u202e.csv",
    ):
        yield Hostile(name, b"text,label\n" + b"a,x\nb,y\n" * 10, 20)


def _marks(rng: random.Random) -> Iterator[Hostile]:
    for _ in range(20):
        lines = [
            rng.choice(["Q:", "A:", "Q: a", "A: b", "", "text", "### Instruction:", "### Response: x"])
            for _ in range(60)
        ]
        yield Hostile("marks.txt", "\n".join(lines).encode())


def _rows(rng: random.Random) -> Iterator[Hostile]:
    """Yield files with the columns of every format and values of every kind."""
    for format in ALIASES:
        for _ in range(8):
            rows = odd_rows(rng, format)
            body = "\n".join(json.dumps(row) for row in rows)
            yield Hostile(f"{format}.jsonl", body.encode("utf-8", "surrogatepass"), len(rows))


def _parquet(rng: random.Random) -> Iterator[Hostile]:
    for name, table in odd_tables():
        yield Hostile(
            f"{name}.parquet", lambda path, table=table: pq.write_table(table, path), table.num_rows or None
        )
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": [f"row {n}" for n in range(500)], "label": ["x"] * 500}), sink)
    whole = sink.getvalue().to_pybytes()
    for cut in (4, 8, len(whole) // 2, len(whole) - 4):
        yield Hostile("cut.parquet", whole[:cut])
    for _ in range(30):
        bitten = bytearray(whole)
        for _ in range(rng.randint(1, 20)):
            bitten[rng.randrange(4, len(bitten))] = rng.randrange(256)
        yield Hostile("bitten.parquet", bytes(bitten))


def _noise(rng: random.Random) -> Iterator[Hostile]:
    for ending in ("csv", "tsv", "json", "jsonl", "parquet", "txt", "gz", "xlsx"):
        yield Hostile(f"noise.{ending}", rng.randbytes(5000))
        yield Hostile(f"words.{ending}", " ".join(rng.choice(WORDS) for _ in range(3000)).encode())
