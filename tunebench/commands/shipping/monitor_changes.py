"""What `tunebench monitor` changes: settings and alerts; and `tunebench monitor-judge`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from engine.diagnostics.drift.label_candidates import REACHED
from engine.diagnostics.drift.pace import PACES
from engine.diagnostics.phrasing import percent
from engine.diagnostics.rating.raters.judged_share import JudgedShare
from engine.diagnostics.rating.raters.judged_versions import draw_words, of_versions
from engine.diagnostics.statistics.statistics import Interval
from store.config.serving.judge_requests_config import JudgeRequests
from store.config.serving.monitor_config import MonitorSettings
from store.contract.errors import ConfigError
from store.http.client import Client
from store.queries import jobs
from store.queries.monitoring import judged_requests, monitor_alerts, monitors
from store.queries.monitoring.judged_requests import JudgedWindow
from tunebench.terminal.connection import Json, Wait, connect
from tunebench.terminal.documents import read_document
from tunebench.terminal.output import errors, print_json, print_rows, require_finished, say, watch


def change_settings(client: Client, endpoint_id: str, changes: dict[str, Any]) -> None:
    """Fields that are named get their new value, all others stay. null switches off what may be off, such as
    most_errors, and is refused for what may not, such as alpha. Raises ConfigError that names the field."""
    if unknown := sorted(set(changes) - set(MonitorSettings.model_fields)):
        raise ConfigError(
            f"There is no setting {unknown[0]!r}.",
            fix=f"There are {', '.join(MonitorSettings.model_fields)}.",
            field=unknown[0],
        )
    present = monitors.settings(monitors.find(client, endpoint_id)).document()
    wanted = MonitorSettings.parse({**present, **changes})
    client.command("set_monitor", {"endpoint": endpoint_id, **wanted.document()})


def show(settings: MonitorSettings, *, json: bool) -> None:
    """As a file that --settings takes."""
    document = settings.model_dump(mode="json")
    if json:
        print_json(document)
    else:
        sys.stdout.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def acknowledge_alert(client: Client, endpoint_id: str, alert: str, note: str, *, new_normal: bool) -> None:
    """By whoever the token is of. Raises NotFoundError for an alert of another endpoint, and ConfigError for
    a new normal where nothing drifted."""
    raised = monitor_alerts.of_endpoint(client, alert, endpoint_id)
    if new_normal and raised["kind"] != "drift" and raised["subject"] not in PACES:
        raise ConfigError(
            f"The alert {alert} is of {raised['kind']}, which has no reference.",
            fix="Leave --new-normal out: it is for alerts that hold new requests against a reference.",
            field="new_normal",
        )
    outcome = "new_normal" if new_normal else "same_reference"
    client.command("acknowledge_alert", {"alert": alert, "note": note, "outcome": outcome})


def monitor_judge(
    endpoint: Annotated[str, typer.Argument(help="Name or id of an endpoint")],
    file: Annotated[Path, typer.Argument(help="The judge as YAML (base_url, model, criteria, …), or -")],
    hours: Annotated[float, typer.Option(min=0.1, help="How far back the requests reach")] = 168.0,
    rows: Annotated[int, typer.Option(min=20, max=5_000, help="Answers in the random sample, at most")] = 200,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Ask a language model of logged answers whether each is good enough. Ratings of people (a round of
    requests drawn at random, pass or fail) correct it."""
    with errors(json):
        client = connect(start=True)
        body = {"endpoint": endpoint, "hours": hours, "rows": rows, "judge": read_document(file)}
        asked = JudgeRequests.parse(body).model_dump(mode="json", exclude_unset=True)
        job_id = client.command("judge_requests", asked)["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else say(f"Queued as {job_id}.")
            return
        job = watch(lambda: jobs.get_job(client, job_id), "Asking the judge")
        require_finished(job, "The judging was")
        window = JudgedWindow.of(job)
        shares = of_versions(judged_requests.answers(client, job_id, window))
        frame = judged_requests.correcting(client, job_id, window)
        if json:
            print_json(
                {
                    **(job["result"] or {}),
                    "versions": {name: asdict(each) for name, each in shares.items()},
                    "corrected_by": frame["round_id"] if frame else None,
                }
            )
        else:
            columns = ["version", "good, corrected", "people alone", "rated", "judge alone", "judged"]
            note = f"A judge alone is not to be relied on. {draw_words(frame, REACHED)}".strip()
            print_rows(columns, [_row(name, each) for name, each in shares.items()], note)


def _row(name: str, seen: JudgedShare) -> list[str]:
    alone = "–" if seen.judge is None else percent(seen.judge)
    corrected = _words(seen.corrected)
    return [name, corrected, _words(seen.people), f"{seen.rated:,}", alone, f"{seen.judged:,}"]


def _words(share: Interval) -> str:
    if share.low is None or share.high is None:
        return f"can't be told: {share.why}"
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"
