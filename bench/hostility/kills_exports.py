"""Engine and worker killed with -9 during the export of a model.

Each round starts an export with its zip file and kills at a random moment after a random step of the work,
or at the very moment when the folder is renamed. Then an engine is started again: the export finishes, or
is resumed, and exists once, complete, with its row; nothing else is in the folder of exports.
"""

from __future__ import annotations

import hashlib
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

from bench.hostility import Attempt
from bench.killed import VICTIMS, KilledHome, moment, seen
from store.core.job_folder import JobDir
from store.db.database import Database
from tests.tiny import conversations, write_model

STEPS = 8  # steps of an export, of which one is drawn
MOMENT_SECONDS = 1.0  # maximum delay after the step begins
PUBLISHED = "both, as it gets its name"


def attempts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Yield one attempt per round, then those on what is left of all."""
    draw = random.Random(seed)
    killed = KilledHome(folder / "home")
    try:
        _begin(killed, folder)
        order = [*VICTIMS, PUBLISHED]
        draw.shuffle(order)
        ordered = 0
        for number, victim in enumerate(order):
            name, problem = _round(killed, draw, victim)
            ordered += 1
            yield Attempt(f"{number}: kill -9 of {name}", problem)
        database = killed.stop()
        try:
            yield from _left(killed, database, ordered)
        finally:
            database.close()
    finally:
        killed.end()


def _begin(killed: KilledHome, folder: Path) -> None:
    """Register a model, and import the rows that an export is checked on."""
    rows = folder / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"messages": turns}) for turns in conversations(40)))
    client, model = killed.client, write_model(folder / "tiny")
    importing = client.command("import_dataset", {"name": "Rows", "source": {"path": str(rows)}})
    registering = client.command("register_model", {"name": "tiny", "path": str(model)})
    killed.finished(str(importing["job_id"]))
    killed.finished(str(registering["job_id"]))


def _round(killed: KilledHome, draw: random.Random, victim: str) -> tuple[str, str]:
    """Kill a process during an export; return the victim with the time, and the problem."""
    asked = {"subject": "tiny@1", "dataset": "Rows", "form": "merged", "part": "all", "zip": True}
    before = set(killed.home.exports.iterdir())
    body = {**asked, "max_rows": 8, "max_new_tokens": 2}
    job_id = str(killed.client.command("export_model", body)["job_id"])
    folder = JobDir(killed.home.jobs / job_id)
    if victim == PUBLISHED:
        if not seen(lambda: set(killed.home.exports.iterdir()) - before):
            return victim, "it never got its name"
        killed.kill("both", [job_id])
        return victim, killed.resumed(job_id)
    step = draw.randint(1, STEPS)
    seen(lambda: folder.events.exists() and folder.events.read_bytes().count(b'"progress"') >= step)
    after = moment(draw, MOMENT_SECONDS)
    killed.kill(victim, [job_id])
    return f"{victim} {after:.2f} s into step {step}", killed.resumed(job_id)


def _left(killed: KilledHome, database: Database, ordered: int) -> Iterator[Attempt]:
    rows = database.query("SELECT folder, zip FROM model_export").to_pylist()
    yield Attempt(
        "exports in the store", "" if len(rows) == ordered else f"{len(rows)}, where {ordered} were ordered"
    )
    named = {Path(row["folder"]).name for row in rows} | {row["zip"] for row in rows}
    there = {path.name for path in killed.home.exports.iterdir()}
    yield Attempt("exports on the disk", "" if there == named else f"{there}, and the store has {named}")
    for row in rows:
        yield Attempt(f"{row['folder']} is whole", _spoiled(killed.home.path / row["folder"]))
        with zipfile.ZipFile(killed.home.exports / row["zip"]) as archive:
            yield Attempt(f"{row['zip']} is whole", archive.testzip() or "")
    yield Attempt("what is left", ", ".join(killed.left(database)))


def _spoiled(folder: Path) -> str:
    """Return the files that do not match the list of checksums."""
    listed = dict(reversed(line.split("  ", 1)) for line in (folder / "SHA256SUMS").read_text().splitlines())
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    del there["SHA256SUMS"]
    if set(listed) != set(there):
        return f"{sorted(set(listed) ^ set(there))} are listed or there, not both"
    return ", ".join(
        name for name, path in there.items() if hashlib.sha256(path.read_bytes()).hexdigest() != listed[name]
    )
