"""Cost of importing a large file of votes: 50,000 on 59 models by 124 raters, compared with a tenth of them.

The file is generated here: a vote per row with both models, their responses, the winner and the voter, as
arenas publish them. The import job reads and writes it, and the engine stores the round.

    python bench/load/import_votes.py [--json]

Limits: job and storing take 10 s of processor time together, and ten times the votes cost at most 13 times
as much. The exit code is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.report import ended
from tests.unit.rating.round_desk import RoundDesk

FEW, MANY = 5_000, 50_000
MODELS, RATERS, PROMPTS = 59, 124, 800
LIMIT_S = 10.0
RATIO = 1.3 * MANY / FEW
ANSWER = "One sentence of an answer that is as long as most of them are. " * 8


def measured(count: int, folder: Path) -> dict[str, float]:
    """Return the processor time of each part for this number of votes, in seconds."""
    desk = RoundDesk(folder, prompts=1)
    file = desk.home.uploads / "votes.jsonl"
    _write(file, count)
    job_id = desk("import_round", path=str(file))["job_id"]
    began = time.process_time()
    result = desk.gathered(job_id)
    read = time.process_time()
    desk.keep(job_id, result)
    kept = time.process_time()
    assert result["elsewhere"]["ratings"] + _again(result) == count
    desk.database.close()
    return {"read and write": read - began, "keep": kept - read, "both": kept - began}


def _again(result: dict[str, Any]) -> int:
    """Return the number of votes excluded because their rater had voted on the same item before."""
    left_out = [note for note in result["details"].notices if note.startswith("Left out")]
    return sum(int(note.split()[2].replace(",", "")) for note in left_out)


def _write(file: Path, count: int) -> None:
    random = Random(0)
    with file.open("w", encoding="utf-8") as lines:
        for _ in range(count):
            first, second = random.sample(range(MODELS), 2)
            prompt = random.randrange(PROMPTS)
            row = {
                "question_id": prompt,
                "prompt": f"What is to be said of subject {prompt}?",
                "model_a": f"model {first}",
                "model_b": f"model {second}",
                "response_a": f"{first} {prompt} {ANSWER}",
                "response_b": f"{second} {prompt} {ANSWER}",
                "winner": random.choice(("model_a", "model_b", "tie")),
                "judge": f"rater {random.randrange(RATERS)}",
            }
            lines.write(json.dumps(row) + "\n")


def main() -> int:
    """Print the times; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    taken = []
    for count in (FEW, MANY):
        with tempfile.TemporaryDirectory() as folder:
            taken.append(measured(count, Path(folder)))
    figures = {name: (taken[0][name], taken[1][name]) for name in taken[0]}
    missed = []
    if figures["both"][1] > LIMIT_S:
        missed.append(f"more than {LIMIT_S:.0f} s of processor time for {MANY:,} votes")
    if figures["both"][1] > RATIO * figures["both"][0]:
        missed.append(f"more than {RATIO:.0f} times as long for {MANY // FEW} times the votes")
    return ended(figures, missed, show, options.json)


def show(figures: dict[str, Any]) -> None:
    print(f"{'':<16}{FEW:>12,}{MANY:>12,} votes")
    for name, (few, many) in figures.items():
        print(f"{name:<16}{few:>10.2f} s{many:>10.2f} s")


if __name__ == "__main__":
    sys.exit(main())
