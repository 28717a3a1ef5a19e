"""Cost of each export format: size, divergence, agreement and speed, as in `docs/benchmarks.md`.

    python bench/answers/exports.py RUN [--forms adapter,merged,…] [--rows 100] [--tokens 64] [--keep]

RUN is a finished run of the home folder (TUNEBENCH_HOME), whose engine must be running. Every format is
exported as on the screens, and deleted again unless --keep. A format that can't be exported has the reason
in its line. First the run is evaluated on the same rows; a check may take MAX_EVALUATIONS times as long as
that, and the exit code is 1 if one takes longer.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from store.core.errors import TunebenchError
from store.core.figure_schemas import Estimate
from store.core.job_kinds import ALIVE
from store.core.schemas import Job
from store.export import exports
from store.export import text as export_text
from store.export.forms import FORMS
from store.http.client import Client
from store.jobs import job_queue
from tunebench.terminal.connection import connect

MAX_EVALUATIONS = 2.0  # the same rows are generated twice: by the model and by its export


@dataclass(frozen=True)
class MadeForm:
    """One line of the table, the duration of its check in seconds (None if the export failed), and the
    reasons why it did not pass.
    """

    line: str
    seconds: float | None = None
    reasons: Sequence[str] = ()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    client = connect()
    evaluation = evaluate(client, arguments)
    print(f"The run, evaluated on {arguments.rows} rows: {evaluation:.1f} s\n")
    print(
        "| form | MiB | of 16-bit | KL, nats a token | top-1, % | identical, % | main change |",
        end="",
    )
    print(" tokens/s | parity | seconds | check, in evaluations |\n|" + "---|" * 11)
    slow = 0
    for form in arguments.forms.split(","):
        made = make(client, arguments, form)
        times = None if made.seconds is None else made.seconds / evaluation
        print(f"{made.line} {'–' if times is None else f'{times:.2f}'} |", flush=True)
        for reason in made.reasons:
            print(f"<!-- {reason} -->")
        slow += times is not None and times > MAX_EVALUATIONS
    return int(slow > 0)


def evaluate(client: Client, arguments: argparse.Namespace) -> float:
    """Evaluate the run's responses and the loss of its rows; return the duration in seconds."""
    body = {"run": arguments.run, "max_rows": arguments.rows, "max_new_tokens": arguments.tokens}
    job = wait(client, client.command("evaluate", body)["job_id"])
    if job.status != "finished" or not job.started_at or not job.ended_at:
        raise SystemExit(f"the evaluation did not finish: {job.error}")
    return (job.ended_at - job.started_at).total_seconds()


def wait(client: Client, job_id: str) -> Job:
    """Wait until the job has ended."""
    while (job := job_queue.get_job(client, job_id)).status in ALIVE:
        time.sleep(1)
    return job


def make(client: Client, arguments: argparse.Namespace, form: str) -> MadeForm:
    """Export and measure one format."""
    began = time.monotonic()
    body = {"subject": arguments.run, "form": form, "max_rows": arguments.rows}
    try:
        job_id = client.command("export_model", {**body, "max_new_tokens": arguments.tokens})["job_id"]
    except TunebenchError as error:
        return MadeForm(f"| {form} | {error} |")
    job = wait(client, job_id)
    if job.status != "finished":
        return MadeForm(f"| {form} | {job.error} |")
    row = exports.get(client, job_id)
    parity, speed = row.parity, row.tokens_per_second
    cells = [
        FORMS[form].title,
        f"{row.model_bytes / 2**20:,.0f}",
        f"{100 * export_text.compute_size_share(row):.0f}%",
        figure(parity.mean_kl),
        figure(parity.argmax_agreement, 100),
        figure(parity.answer_agreement, 100),
        export_text.describe_change(row),
        "–" if speed is None else f"{speed:.0f}",
        row.status,
        f"{time.monotonic() - began:.0f}",
    ]
    if not arguments.keep:
        client.command("delete_export", {"export": job_id})
    return MadeForm(f"| {' | '.join(cells)} |", parity.seconds, parity.reasons)


def figure(estimate: Estimate | None, scale: float = 1) -> str:
    """Format a value and its interval with two significant digits."""
    if estimate is None:
        return "–"
    low, high = estimate.low, estimate.high
    between = "" if low is None or high is None else f" ({digits(scale * low)} to {digits(scale * high)})"
    return f"{digits(scale * estimate.value)}{between}"


def digits(value: float) -> str:
    """Format with two significant digits; from ten on, as an integer."""
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


if __name__ == "__main__":
    sys.exit(main())
