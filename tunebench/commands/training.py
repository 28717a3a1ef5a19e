"""Runs on the command line: their output, `tunebench advise` for a method, `interpolate` between a run and
its base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, NotRequired, TypedDict

import typer

from engine.evaluation.verdicts import forgetting_tradeoff, launch_advice, paired_measurements
from pages.shared import display
from store.core.errors import ConfigError, NotFoundError, from_dict
from store.core.figure_schemas import Estimate, Gain
from store.core.formatting import plural
from store.core.schemas import HourPrice
from store.core.training_schemas import Advice, AdviceOption, Recommendation
from store.data import datasets
from store.evaluation.forgetting_schemas import TextForgetting
from store.evaluation.verdict_schemas import GainParts
from store.http.client import Client
from store.jobs import job_queue, metric_points
from store.jobs.schemas import MetricSummary
from store.people import settings
from store.runs import run_outcomes, runs
from store.runs.config import Interpolate, Variant
from store.runs.schemas import Alert, MeasuredMix, Run
from store.training.split import get_split
from store.training.train_config import BUNDLED_MODEL, TrainConfig
from tunebench.terminal.connection import Json, Wait, connect
from tunebench.terminal.output import (
    out,
    print_json,
    print_notice,
    print_rows,
    report_errors,
    require_finished,
    watch_job,
)


class RunSummary(TypedDict):
    """Fields of a run in a list."""

    run_id: str
    name: str
    status: str
    model: str
    method: str
    dataset_name: str
    created_at: datetime
    last_step: int | None
    base_eval_loss: float | None
    best_eval_loss: float | None
    best_step: int | None
    last_train_loss: float | None
    gain: Gain | None
    gain_parts: GainParts | None


@dataclass(kw_only=True)
class RunDocument(Run):
    """A run with all its data except its curves and the features' parts."""

    metrics: dict[str, MetricSummary]  # by name
    alerts: list[Alert]


def summarize_run(run: Run) -> RunSummary:
    """Return the fields of a run for a list."""
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "model": run.model,
        "method": run.method,
        "dataset_name": run.dataset_name,
        "created_at": run.created_at,
        "last_step": run.last_step,
        "base_eval_loss": run.base_eval_loss,
        "best_eval_loss": run.best_eval_loss,
        "best_step": run.best_step,
        "last_train_loss": run.last_train_loss,
        "gain": _get_gain(run),
        "gain_parts": _get_gain_parts(run),
    }


def _get_gain_parts(run: Run) -> GainParts | None:
    verdict = run.verdict
    return verdict.parts if verdict else None


def _get_gain(run: Run) -> Gain | None:
    verdict = run.verdict
    return verdict.gain if verdict else None


def build_run_document(client: Client, run: Run) -> RunDocument:
    """Build the document of a run: its row, metric summaries and alerts."""
    return RunDocument(
        **vars(run),
        metrics={row.name: row for row in metric_points.summaries(client, [run.run_id])},
        alerts=runs.alerts(client, run.run_id),
    )


def format_loss(loss: float | None) -> str:
    """Format a loss; a dash if there is none yet."""
    return "–" if loss is None else f"{loss:.3f}"


def format_gain(gain: Estimate | None) -> str:
    """Format a gain with n, and with its 95% interval if there are enough rows."""
    if not gain:
        return "–"
    if gain.low is None:
        return f"{gain.value:+.3f} (n {gain.n})"
    return f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}, n {gain.n})"


def print_runs(listed: Sequence[Run], total: int, hidden: int) -> None:
    """Print a table of runs, and how many are not listed. hidden: archived ones, which `total` leaves out."""
    rows = [
        [
            run.name,
            run.status,
            run.method,
            run.dataset_name,
            format_loss(run.base_eval_loss),
            format_loss(run.best_eval_loss),
            format_gain(_get_gain(run)),
            format_gain(parts.question if (parts := _get_gain_parts(run)) else None),
            run.run_id,
        ]
        for run in listed
    ]
    columns = ["name", "status", "method", "data set", "base loss", "best loss"]
    columns += ["gain (nats a token)", "from the question", "id"]
    note = f", without {hidden:,} in the archive (--archived)" if hidden else ""
    print_rows(columns, rows, f"{len(listed):,} of {plural(total, 'run')}{note}")


def print_run(run: Run) -> None:
    """Print one run: its settings, its status, and its verdict."""
    out.print(f"{run.name}  {run.status}  {run.run_id}", markup=False, soft_wrap=True)
    best = None
    if run.best_eval_loss is not None and run.best_step is not None:
        best = f"{format_loss(run.best_eval_loss)} at step {run.best_step:,}"
    rows: list[list[object]] = [
        ["model", run.model],
        ["data set", run.dataset_name],
        ["method", run.method],
        ["steps", run.last_step],
        ["base validation loss", format_loss(run.base_eval_loss)],
        ["best validation loss", best],
    ]
    print_rows(["", ""], [row for row in rows if row[1] is not None])
    verdict = run.verdict
    for part in (verdict, verdict.forgetting if verdict else None):
        for sentence in (part.headline, *part.sentences) if part else ():
            out.print(sentence, markup=False, soft_wrap=True)
    if bundle := run.facts.get("reproduces"):
        name = bundle["run_name"]
        text = f"Reproduced from the bundle {bundle['bundle']} of the run {name} ({bundle['run_id']})."
        out.print(text, markup=False, soft_wrap=True)
    if run.error:
        print_notice(str(from_dict(run.error)))


def compute_restored_loss(client: Client, run: Run) -> float | None:
    """Return the validation loss of the run's final weights; None before it has ended."""
    stopped = run.facts.get("stopped")
    if not stopped:
        return None
    step = stopped.restored_step
    return None if step is None else metric_points.value_at(client, run.run_id, "eval/loss", step)


def print_sample(client: Client, run_id: str, as_json: bool) -> None:
    """Print the result of the sample experiment: base and tuned validation loss, gain, interval."""
    run = runs.get_run(client, run_id)
    if not as_json:
        print_run(run)
        return
    verdict, gain = run.verdict, _get_gain(run)
    print_json(
        {
            "run_id": run_id,
            "status": run.status,
            "base_validation_loss": run.base_eval_loss,
            "tuned_validation_loss": compute_restored_loss(client, run),
            "gain": gain.value if gain else None,
            "gain_low": gain.low if gain else None,
            "gain_high": gain.high if gain else None,
            "gain_rows": gain.n if gain else None,
            "gain_split": gain.split if gain else None,
            "gain_unit": gain.unit if gain else None,
            "state": verdict.state if verdict else None,
            "headline": verdict.headline if verdict else None,
            "error": run.error,
        }
    )


def advise(
    dataset: Annotated[str, typer.Option(help="Data set name or id")],
    model: Annotated[str, typer.Option(help="Bundled model, local folder or hub id")] = BUNDLED_MODEL,
    task: Annotated[str, typer.Option(help="Task: sft, classification or dpo")] = "sft",
    max_train_rows: Annotated[int | None, typer.Option(min=1)] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="Price per hour; default: the saved price")
    ] = None,
    json: Json = False,
) -> None:
    """Compare training methods: memory, time, cost, results of past runs, and a recommendation."""
    with report_errors(json):
        client = connect(start=True)
        version = datasets.get_dataset(client, dataset)
        asked = {"dataset": dataset, "model": model, "task": task, "max_train_rows": max_train_rows}
        config = TrainConfig.parse({k: v for k, v in asked.items() if v is not None}).model_dump(
            exclude_unset=True
        )
        body = {
            "config": config,
            "fingerprint": version.fingerprint,
            "split": get_split(config, datasets.get_split_fields(version)),
        }
        answer = client.ask("advice", body, Advice)
        kept = settings.price(client)
        per_hour = kept.per_hour if price is None else price
        options: list[PricedOption] = [
            {**option, "cost": launch_advice.estimate_run_cost(option, per_hour)}
            for option in answer["options"]
        ]
        asked_price = HourPrice(per_hour=per_hour, currency=kept.currency)
        if json:
            print_json({**answer, "options": options, "price": asked_price})
        else:
            _print_advice(answer["recommendation"], options, asked_price)


class PricedOption(AdviceOption):
    """A method with its lowest, expected and highest cost; null without a price or a time."""

    cost: tuple[float, float, float] | None


def _print_advice(recommendation: Recommendation, options: Sequence[PricedOption], price: HourPrice) -> None:
    for sentence in (recommendation["sentence"], *recommendation["reasons"]):
        out.print(sentence, markup=False, soft_wrap=True)
    columns = [
        "method",
        "memory",
        "fits",
        "time",
        f"cost ({price.currency})",
        "energy",
        "on disk",
    ]
    rows = [_build_row(option) for option in options if not option["problem"]]
    print_rows([*columns, "gain"], rows)
    for option in options:
        if option["problem"]:
            print_notice(f"{option['title']}: {option['problem']}")


def _build_row(option: PricedOption) -> list[str]:
    cost, energy, past = option["cost"], option["energy_wh"], option["past"]
    gain = "–"
    if past and past.gain is not None:
        interval = Estimate(
            value=past.gain,
            low=past.low,
            high=past.high,
            n=past.n or 0,
        )
        gain = f"{format_gain(interval)} {past.unit}"
    return [
        option["title"],
        display.format_gib_range(option["low_gib"], option["high_gib"]),
        "yes" if option["fits"] else "no",
        display.format_duration_range(option["low_seconds"], option["high_seconds"]),
        f"{cost[0]:,.2f} to {cost[2]:,.2f}" if cost else "no price",
        f"{energy[0]:,.0f} to {energy[2]:,.0f} Wh" if energy else "unknown",
        display.format_size(option["disk_bytes"]),
        gain,
    ]


class QueuedWork(TypedDict, total=False):
    """Queued work: the evaluation of interpolations, and the run that saves one."""

    job_id: str
    run_id: str


RunName = Annotated[str, typer.Argument(help="Id or name of a finished run")]


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.command()(interpolate)
    cli.command("interpolations")(interpolations_)


def interpolate(
    run: RunName,
    alphas: Annotated[
        str, typer.Option(help="Interpolation weights to evaluate, such as 0.2,0.5; default: five steps")
    ] = "",
    save: Annotated[float | None, typer.Option(help="Save the model with this weight as a run")] = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Evaluate models between the base (0) and the tuned model (1) of a run; --save keeps one as a run."""
    with report_errors(json):
        scored = Interpolate.parse({"run": run} | ({"alphas": _parse_numbers(alphas)} if alphas else {}))
        kept = None if save is None else Variant.parse({"run": run, "alpha": save})
        client = connect(start=True)
        made: QueuedWork = {}
        if alphas or kept is None:
            made["job_id"] = client.command("interpolate", scored.model_dump())["job_id"]
        if kept is not None:
            made["run_id"] = client.command("keep_variant", kept.model_dump())["run_id"]
        if not wait:
            ids = " and ".join(str(job_id) for job_id in made.values())
            print_json(made) if json else print_notice(f"Queued as {ids}.")
            return
        for job_id, what in ((made.get("job_id"), "Evaluating"), (made.get("run_id"), "Saving the model")):
            if job_id:
                _wait_for_job(client, job_id, what)
        shares = _read_shares(client, runs.get_run(client, run).run_id)
        print_json({**made, **shares}) if json else _print_interpolations(shares)


def _parse_numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise ConfigError(
            f"Invalid value {text!r} for --alphas.",
            fix="Use comma-separated weights from 0 to 1: 0.2,0.4",
            field="alphas",
        ) from error


def _wait_for_job(client: Client, job_id: str, what: str) -> None:
    """Wait for the job; raise or exit if it has no result."""
    require_finished(watch_job(lambda: job_queue.get_job(client, job_id), what), "It was")


def interpolations_(run: RunName, json: Json = False) -> None:
    """List evaluated interpolations of a run: gain and forgetting of each."""
    with report_errors(json):
        client = connect()
        shares = _read_shares(client, runs.get_run(client, run).run_id)
        if not shares["points"]:
            raise NotFoundError(
                f"No interpolations evaluated for {run!r} yet.",
                fix=f"Evaluate some with: tunebench interpolate '{run}'",
            )
        print_json(shares) if json else _print_interpolations(shares)


class ScoredShares(TypedDict):
    """Evaluated interpolations between a run's base and tuned model."""

    points: list[MeasuredMix]
    recommended: NotRequired[float | None]  # omitted with the sentence if none was scored
    sentence: NotRequired[str]
    kept: dict[str, str]  # α -> run_id of the run that it is saved as


def _read_shares(client: Client, run_id: str) -> ScoredShares:
    points = run_outcomes.measured_shares(client, run_id)
    shares: ScoredShares = {
        "points": points,
        "kept": {str(alpha): row.run_id for alpha, row in run_outcomes.kept_variants(client, run_id).items()},
    }
    gains = [
        forgetting_tradeoff.ShareGain(point.alpha, point.gain, point.prose) for point in points if point.gain
    ]
    if gains:
        advised = forgetting_tradeoff.recommend_share(gains)
        shares["recommended"], shares["sentence"] = advised.recommended, advised.sentence
    return shares


def _print_interpolations(shares: ScoredShares) -> None:
    named = dict.fromkeys(part.probe for point in shares["points"] for part in point.named or ())
    rows = [
        [
            f"{point.alpha:g}",
            _format_estimate(point.gain),
            _format_estimate(point.prose),
            _format_estimate(point.answers, -100),
            _format_estimate(point.kl),
            *(_format_probe_figure(point, probe) for probe in named),
            shares["kept"].get(str(point.alpha), "–"),
        ]
        for point in shares["points"]
    ]
    columns = ["α", "gain ↑", "prose loss increase ↓", "question accuracy loss, points ↓", "KL ↓"]
    columns += [*(f"{paired_measurements.format_probe_title(probe)} ↓" for probe in named), "saved as"]
    print_rows(columns, rows, plural(len(rows), "share"))
    if sentence := shares.get("sentence"):
        out.print(sentence, markup=False, soft_wrap=True)


def _format_probe_figure(point: MeasuredMix, probe: str) -> str:
    """Format a probe data set's change, higher being worse, as on the screen.

    The drop of its accuracy in points, or the increase of its loss in nats per token.
    """
    part = next((part for part in point.named or () if part.probe == probe), None)
    if part is None:
        return "–"
    return (
        _format_estimate(part.change)
        if isinstance(part, TextForgetting)
        else f"{_format_estimate(part.change, -100)} points"
    )


def _format_estimate(estimate: Estimate | None, scale: float = 1) -> str:
    if not estimate:
        return "–"
    value = scale * estimate.value + 0.0
    ends = [None if end is None else scale * end + 0.0 for end in (estimate.low, estimate.high)]
    low, high = ends if scale > 0 else reversed(ends)
    bounds = "" if low is None or high is None else f"{low:+.3f} to {high:+.3f}, "
    return f"{value:+.3f} ({bounds}n {estimate.n})"
