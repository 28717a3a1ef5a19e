"""What each form of a model costs: size, divergence, agreement and speed, as `docs/benchmarks.md` has them.

    python bench/answers/exports.py RUN [--forms adapter,merged,…] [--rows 100] [--tokens 64] [--keep]

RUN is a finished run of the home folder (TUNEBENCH_HOME) whose engine runs. Every form is exported as the
screens do it, and deleted again but for --keep. A form that can't be made says why in its line.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from store.catalog.export_forms import FORMS
from store.contract.errors import TunebenchError
from store.contract.states import ALIVE
from store.documents.figures.estimate import Estimate
from store.http.client import Client
from store.queries import jobs
from store.queries.shipping import exports
from store.words import export_words
from tunebench.terminal.connection import connect


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    client = connect()
    print(
        "| form | MiB | of 16 bits | KL, nats a token | same favourite, % | same answers, % | main change |",
        end="",
    )
    print(" tokens/s | parity | seconds |\n|" + "---|" * 10)
    for form in arguments.forms.split(","):
        print(line(client, arguments, form), flush=True)
    return 0


def line(client: Client, arguments: argparse.Namespace, form: str) -> str:
    """One form, made and measured."""
    began = time.monotonic()
    body = {"subject": arguments.run, "form": form, "max_rows": arguments.rows}
    try:
        job_id = client.command("export_model", {**body, "max_new_tokens": arguments.tokens})["job_id"]
    except TunebenchError as error:
        return f"| {form} | {error} |"
    while (job := jobs.get_job(client, job_id))["status"] in ALIVE:
        time.sleep(1)
    if job["status"] != "finished":
        return f"| {form} | {job['error']} |"
    row = exports.get(client, job_id)
    parity, speed = row["parity"], row["tokens_per_second"]
    cells = [
        FORMS[form].title,
        f"{row['model_bytes'] / 2**20:,.0f}",
        f"{100 * export_words.share(row):.0f}%",
        figure(parity["mean_kl"]),
        figure(parity["argmax_agreement"], 100),
        figure(parity["answer_agreement"], 100),
        export_words.change(row),
        "–" if speed is None else f"{speed:.0f}",
        row["status"],
        f"{time.monotonic() - began:.0f}",
    ]
    if not arguments.keep:
        client.command("delete_export", {"export": job_id})
    return f"| {' | '.join(cells)} |" + "".join(f"\n<!-- {reason} -->" for reason in parity["reasons"])


def figure(estimate: Estimate | None, scale: float = 1) -> str:
    """Value and interval with two significant digits."""
    if estimate is None:
        return "–"
    low, high = estimate["low"], estimate["high"]
    between = "" if low is None or high is None else f" ({scale * low:.2g} to {scale * high:.2g})"
    return f"{scale * estimate['value']:.2g}{between}"


if __name__ == "__main__":
    sys.exit(main())
