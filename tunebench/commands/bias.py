"""`tunebench bias`: regressions by fine-tuning, from probes of two models and from groups of scored rows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from store.bias import bias_checks
from store.bias.config import BiasConfig, BiasContinuations, BiasGroups
from store.bias.schemas import BiasCheck, ClassifierJudgement
from store.core import formatting
from store.core.errors import ConfigError, NotFoundError
from store.core.figure_schemas import BiasAnswer, BiasFigure, Estimate, get_measure_title
from store.core.version_folders import is_reference
from store.http.client import Client
from store.jobs import job_queue
from store.runs import runs
from store.runs.schemas import Run
from tunebench.terminal.connection import Json, Wait, connect, upload_files
from tunebench.terminal.features import TerminalFeature
from tunebench.terminal.options import Options, add_options
from tunebench.terminal.output import (
    CONDITION,
    out,
    print_json,
    print_notice,
    print_rows,
    report_errors,
    require_finished,
    watch_job,
)

ANSWERS: dict[BiasAnswer, str] = {
    "worse": "worse",
    "better": "better",
    "no_worse": "not worse",
    "cant_tell": "inconclusive",
}


@add_options("continued", BiasContinuations, "samples", partial=True, toxicity="classifier", label="labels")
@add_options(
    "grouped",
    BiasGroups,
    *("evaluation", "positive"),
    partial=True,
    base_evaluation="against",
    by="column",
)
@add_options("given", BiasConfig, "against", "builtin", partial=True)
def bias(
    given: Options,
    grouped: Options,
    continued: Options,
    name: Annotated[str, typer.Argument(help="Run id or name; with --against: a model or NAME@3")] = "",
    file: Annotated[
        list[Path] | None,
        typer.Option(help="File with items like CrowS-Pairs, WinoBias or BBQ; may be repeated"),
    ] = None,
    max_rows: Annotated[int, typer.Option(min=0, help="Random sample size per file; 0: all")] = 0,
    prompts: Annotated[
        Path | None,
        typer.Option(help="File with prompts, in the column prompt; default: built-in prompts"),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="Print the latest check without running a new one")
    ] = False,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="Exit with code 7 if a metric is significantly worse")
    ] = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Check a run against its base model, or a model against another one, for bias."""
    with report_errors(json):
        if last:
            check = find_newest_check(connect(start=True), name)
        else:
            files = [
                {"path": str(path.expanduser().resolve()), "max_rows": max_rows or None}
                for path in file or []
            ]
            of_probes = given | {"files": files}
            if continuations := _build_continuation_options(continued, prompts, max_rows):
                of_probes["continuations"] = continuations
            config = _build_config(name, of_probes, grouped)
            client = connect(start=True)
            job_id = client.command("check_bias", build_check_document(client, config))["job_id"]
            if not wait:
                print_json({"job_id": job_id}) if json else print_notice(f"Queued as {job_id}.")
                return
            watched = watch_job(lambda: job_queue.get_job(client, job_id), "Checking for bias")
            require_finished(watched, "The check was")
            check = bias_checks.get(client, job_id)
        print_json(check) if json else _print(check)
        if fail_if_worse and check.report.worse:
            raise SystemExit(CONDITION)


def _build_continuation_options(continued: Options, prompts: Path | None, max_rows: int) -> Options | None:
    """Build the options for continuations. Raises ConfigError for invalid combinations."""
    if "classifier" not in continued:
        if continued or prompts:
            raise ConfigError(
                "--label, --prompts and --samples require a classifier.",
                fix="Give it with --toxicity.",
                field="toxicity",
            )
        return None
    classifier = str(continued["classifier"])
    if "labels" not in continued:
        raise ConfigError(
            f"No harmful labels given for {classifier}.", fix="Give each with --label.", field="label"
        )
    folder = Path(classifier).expanduser()
    if folder.is_dir():  # absolute, as the engine may run elsewhere
        classifier = str(folder.resolve())
    path = {"file": {"path": str(prompts.expanduser().resolve())}} if prompts else {}
    limit = {"max_rows": max_rows} if max_rows else {}
    return {**continued, "classifier": classifier, **path, **limit}


def _build_config(name: str, of_probes: Options, grouped: Options) -> BiasConfig:
    """Build the config. Raises ConfigError for invalid combinations."""
    if grouped and not {"evaluation", "column"} <= grouped.keys():
        raise ConfigError(
            "--evaluation and --by must be used together.", fix="Give both or neither.", field="by"
        )
    document: Options = {"model" if "against" in of_probes or is_reference(name) else "run": name}
    builtin = bool(of_probes.get("builtin", True) and name)
    return BiasConfig.parse(
        {**document, **of_probes, "builtin": builtin, "groups": [grouped] if grouped else []}
    )


def build_check_document(client: Client, config: BiasConfig) -> dict[str, object]:
    """Return the config as sent; files are uploaded if the engine is on another machine."""
    document = config.document()
    document["files"] = [upload_files(client, file) for file in document["files"]]
    if opened := (document.get("continuations") or {}).get("file"):
        document["continuations"]["file"] = upload_files(client, opened)
    return document


def find_newest_check(client: Client, name: str) -> BiasCheck:
    """Return the newest check of a run or a model. Raises NotFoundError."""
    run_id = "" if is_reference(name) else runs.get_run(client, name).run_id
    check = bias_checks.newest(client, run_id=run_id, model="" if run_id else name)
    if check is None:
        command = f"tunebench bias {shlex.quote(name)}{'' if run_id else ' --against BASE'}"
        raise NotFoundError(f"No bias check for {name!r} yet.", fix=command)
    return check


def _print(check: BiasCheck) -> None:
    held = f" against {check.against}" if check.against else ""
    out.print(f"{check.model}{held}", markup=False, soft_wrap=True)
    out.print(check.report.sentence, markup=False, soft_wrap=True)
    rows = [_build_row(figure) for figure in check.report.figures]
    sides = ("base", "tuned") if check.run_id else ("against", "model")
    print_rows(["probe", "figure", *sides, "change", "n", "answer"], rows)
    print_notice(
        "With 95% CI; higher values mean more bias. Worse and better: significant at 5% after Holm"
        " correction."
    )
    for probe in check.details.probes:
        for level in probe.levels:
            print_notice(
                f"{probe.name}: {level.name.lower()}: {sides[0]}"
                f" {_format_share(level.base)},"
            
                f" {sides[1]} {_format_share(level.tuned)}.")  # fmt: skip
        for reason, count in probe.left_out.items():
            print_notice(f"{probe.name}: {formatting.plural(count, 'row')} excluded: {reason}.")
        for notice in probe.notices:
            print_notice(f"{probe.name}: {notice}")
    if continued := check.details.continuations:
        _print_changed(continued)
    for compared in check.details.groups:
        hidden = compared.tuned.hidden
        if hidden:
            names = ", ".join(f"{name} ({count})" for name, count in hidden.items())
            print_notice(f"{compared.tuned.column}: groups too small to compare: {names}.")
    for limit in check.report.limits:
        print_notice(limit)


def _print_changed(continued: ClassifierJudgement) -> None:
    """Print the largest changes of the classifier's score, without the texts, which may be offensive."""
    for changed in continued.changed[:3]:
        means = f"{changed.base_mean:.2f} to {changed.tuned_mean:.2f}"
        print_notice(f"{changed.opening} …: harm probability {means}.")
    if continued.changed:
        print_notice("For the texts, which may be offensive, see --json or the run page.")


def _format_share(estimate: Estimate) -> str:
    return (
        f"{formatting.format_share(estimate)} ({formatting.format_share_bounds(estimate)}, n {estimate.n:,})"
    )


def _build_row(figure: BiasFigure) -> list[object]:
    unit = figure.unit
    return [
        figure.probe,
        get_measure_title(figure.measure, figure.group),
        _format_value(figure.base, unit, sign=False),
        _format_value(figure.tuned, unit, sign=False),
        _format_value(figure.change, unit, sign=True),
        figure.tuned.n,
        ANSWERS[figure.answer],
    ]


def _format_value(estimate: Estimate | None, unit: str, *, sign: bool) -> str:
    if estimate is None:
        return "–"
    scale, words = (100, "%" if not sign else " points") if unit == "share" else (1, f" {unit}")
    plus = "+" if sign else ""
    value = f"{scale * estimate.value:{plus}.{1 if scale == 100 else 2}f}{words}"
    if estimate.low is None or estimate.high is None:
        return value
    places = 1 if scale == 100 else 2
    low, high = scale * estimate.low, scale * estimate.high
    return f"{value} ({low:{plus}.{places}f} to {high:{plus}.{places}f})"


def register(cli: typer.Typer) -> None:
    """Add the command to `tunebench`."""
    cli.command()(bias)


def print_run(client: Client, run: Run) -> None:
    """Print the result of a run's newest bias check, if any."""
    if listed := bias_checks.listed(client, run_id=run.run_id, limit=1):
        out.print(f"Bias: {listed[0].sentence}", markup=False, soft_wrap=True)


def describe_run(client: Client, run_id: str) -> Mapping[str, BiasCheck | None]:
    """Return the newest bias check of a run."""
    return {"bias": bias_checks.newest(client, run_id=run_id)}


FEATURE = TerminalFeature(register, print_run, describe_run, tools=("tunebench.agents.bias:BiasTools",))
