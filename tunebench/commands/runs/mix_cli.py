"""`tunebench interpolate` and `interpolations`: models between a run and its base, without training."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

import typer

from engine.diagnostics.forgetting import kept_share, probe_scores
from engine.diagnostics.phrasing import plural
from store.config.training.interpolate_config import Interpolate, Variant
from store.contract.errors import ConfigError, NotFoundError
from store.documents.figures.estimate import Estimate
from store.documents.tables.run import MeasuredShare
from store.http.client import Client
from store.queries import jobs
from store.queries.runs import interpolations, runs
from tunebench.terminal.connection import Json, Wait, connect
from tunebench.terminal.output import (
    errors,
    out,
    print_json,
    print_rows,
    require_finished,
    say,
    watch,
)


class QueuedWork(TypedDict, total=False):
    """What was queued: the scoring of shares, and the run that keeps one."""

    job_id: str
    run_id: str


RunName = Annotated[str, typer.Argument(help="Id or name of a finished run")]


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.command()(interpolate)
    cli.command("interpolations")(interpolations_)


def interpolate(
    run: RunName,
    alphas: Annotated[str, typer.Option(help="Shares to score, such as 0.2,0.5; five steps otherwise")] = "",
    save: Annotated[float | None, typer.Option(help="Keep the model at this share as a run")] = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Score models between a run's base (0) and its own (1); with --save, keep one of them as a run."""
    with errors(json):
        scored = Interpolate.parse({"run": run} | ({"alphas": _numbers(alphas)} if alphas else {}))
        kept = None if save is None else Variant.parse({"run": run, "alpha": save})
        client = connect(start=True)
        made: QueuedWork = {}
        if alphas or kept is None:
            made["job_id"] = client.command("interpolate", scored.model_dump())["job_id"]
        if kept is not None:
            made["run_id"] = client.command("keep_variant", kept.model_dump())["run_id"]
        if not wait:
            ids = " and ".join(str(job_id) for job_id in made.values())
            print_json(made) if json else say(f"Queued as {ids}.")
            return
        for job_id, what in ((made.get("job_id"), "Scoring"), (made.get("run_id"), "Keeping a share")):
            if job_id:
                _finish(client, job_id, what)
        shares = _shares(client, runs.get_run(client, run)["run_id"])
        print_json({**made, **shares}) if json else _print(shares)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise ConfigError(
            f"--alphas is {text!r}.", fix="Write shares from 0 to 1 with commas: 0.2,0.4", field="alphas"
        ) from error


def _finish(client: Client, job_id: str, what: str) -> None:
    """Wait for the job; raise or exit where it left no result."""
    require_finished(watch(lambda: jobs.get_job(client, job_id), what), "It was")


def interpolations_(run: RunName, json: Json = False) -> None:
    """The shares of the way from a run's base that were scored: what each gains, and what it forgets."""
    with errors(json):
        client = connect()
        shares = _shares(client, runs.get_run(client, run)["run_id"])
        if not shares["points"]:
            raise NotFoundError(
                f"No share of the way to {run!r} was scored yet.",
                fix=f"Score some with: tunebench interpolate '{run}'",
            )
        print_json(shares) if json else _print(shares)


class ScoredShares(TypedDict):
    """The shares of the way from a run's base that were scored."""

    points: list[MeasuredShare]
    recommended: NotRequired[float | None]  # left out with sentence where none was scored
    sentence: NotRequired[str]
    kept: dict[str, str]  # share -> run_id of the run that it is kept as


def _shares(client: Client, run_id: str) -> ScoredShares:
    points = interpolations.points(client, run_id)
    shares: ScoredShares = {
        "points": points,
        "kept": {str(alpha): row["run_id"] for alpha, row in interpolations.kept(client, run_id).items()},
    }
    gains = [
        kept_share.ShareGain(point["alpha"], point["gain"], point["prose"])
        for point in points
        if point["gain"]
    ]
    if gains:
        advised = kept_share.recommend(gains)
        shares["recommended"], shares["sentence"] = advised["recommended"], advised["sentence"]
    return shares


def _print(shares: ScoredShares) -> None:
    named = dict.fromkeys(part["probe"] for point in shares["points"] for part in point["named"] or ())
    rows = [
        [
            f"{point['alpha']:g}",
            _figure(point["gain"]),
            _figure(point["prose"]),
            _figure(point["answers"], -100),
            _figure(point["kl"]),
            *(_named(point, probe) for probe in named),
            shares["kept"].get(str(point["alpha"]), "–"),
        ]
        for point in shares["points"]
    ]
    columns = ["α", "gain ↑", "rise on prose ↓", "fall on questions, points ↓", "KL ↓"]
    columns += [*(f"{probe_scores.named(probe)} ↓" for probe in named), "kept as"]
    print_rows(columns, rows, plural(len(rows), "share"))
    if sentence := shares.get("sentence"):
        out.print(sentence, markup=False, soft_wrap=True)


def _named(point: MeasuredShare, probe: str) -> str:
    """What a data set that is a probe says, more being worse as on the screen: points that its accuracy fell,
    or the rise of its loss in nats a token."""
    part = next((part for part in point["named"] or () if part["probe"] == probe), None)
    if part is None:
        return "–"
    return _figure(part["change"]) if "unit" in part else f"{_figure(part['change'], -100)} points"


def _figure(estimate: Estimate | None, scale: float = 1) -> str:
    if not estimate:
        return "–"
    value = scale * estimate["value"] + 0.0
    ends = [None if end is None else scale * end + 0.0 for end in (estimate["low"], estimate["high"])]
    low, high = ends if scale > 0 else reversed(ends)
    bounds = "" if low is None or high is None else f"{low:+.3f} to {high:+.3f}, "
    return f"{value:+.3f} ({bounds}n {estimate['n']})"
