"""The Tunebench command line: everything the web interface does, for scripts and CI.

Exit codes: 0 success, 1 the run or import failed, 2 invalid input, 3 not found, 4 engine not reachable, 5 not
allowed in the current state, 6 the run was cancelled or lost, 7 a condition failed or a metric was not
reproduced, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from store.core.errors import ConfigError
from store.core.formatting import plural
from store.core.home import Home
from store.db.commit_journal import describe_recent_loss
from store.documentation import reference_tables
from store.http.client import Client
from store.jobs import job_queue
from store.people import settings
from store.runs import runs
from store.training import methods_text
from store.training.train_config import TrainConfig
from tunebench.commands import evaluation, people, training
from tunebench.commands.data import data_commands, import_
from tunebench.commands.people import activity
from tunebench.commands.training import advise
from tunebench.terminal import processes
from tunebench.terminal.connection import Json, Wait, connect, send_change
from tunebench.terminal.features import load_terminal_features
from tunebench.terminal.output import (
    FAILED,
    OK,
    STOPPED,
    print_json,
    print_notice,
    print_rows,
    print_table,
    report_errors,
    watch_job,
)
from tunebench.terminal.processes import open_browser, report_running_endpoints

Files = Annotated[
    list[Path] | None,
    typer.Option(help="Folder from which agents may import files (default: none); may be repeated"),
]


def mcp(files: Files = None) -> None:
    """Serve Tunebench's tools to an agent (Model Context Protocol, stdio), with the rights of your token."""
    import anyio  # slow to import (a second with the server), and needed by no other command

    from tunebench.agents import messages, server

    with report_errors():
        for folder in files or []:
            if not folder.is_dir():
                raise ConfigError(f"{folder} is not a folder.", fix="Give an existing folder.", field="files")
        anyio.run(messages.serve_lines, server.build_server(connect, files or []))


cli = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
cli.add_typer(data_commands, name="data")
cli.add_typer(people.team, name="team")
cli.command()(people.me)
cli.command()(advise)
cli.command()(activity)
cli.command()(mcp)
evaluation.register(cli)
training.register(cli)
evaluation.register_judge(cli)
for feature in load_terminal_features().values():
    feature.register(cli)

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the web interface")]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(help="Additional host name to accept, besides loopback; may be repeated"),
]
Host = Annotated[
    str,
    typer.Option(help="Address or name to listen on; other than loopback requires sign-in"),
]
TrustedProxy = Annotated[
    list[str] | None,
    typer.Option(help="Address of a trusted proxy (X-Forwarded-For, X-Forwarded-Proto); may be repeated"),
]


def print_result(client: Client, run_id: str, wait: bool, as_json: bool) -> None:
    """Print a run, after it has ended if `wait`, and exit with the code of its outcome."""
    code = OK
    if wait:
        job = watch_job(lambda: job_queue.get_job(client, run_id), runs.get_run(client, run_id).name)
        code = {"finished": OK, "failed": FAILED}.get(job.status, STOPPED)
    run = runs.get_run(client, run_id)
    if as_json:
        document: dict[str, object] = {**vars(training.build_run_document(client, run))}
        for feature in load_terminal_features().values():
            document.update(feature.describe_run(client, run_id))
        print_json(document)
    else:
        training.print_run(run)
        for feature in load_terminal_features().values():
            feature.print_run(client, run)
    raise SystemExit(code)


@cli.command()
def up(
    port: Port = None,
    host: Host = processes.LOOPBACK,
    allow_host: AllowHost = None,
    trusted_proxy: TrustedProxy = None,
    team: Annotated[bool, typer.Option("--team", help="Require sign-in")] = False,
    browser: Annotated[bool, typer.Option(help="Open a browser, if available")] = True,
) -> None:
    """Start the engine and the web interface. Ctrl-C stops both; runs and endpoints continue."""
    began = time.monotonic()
    processes.forget_api_token()
    home, names = Home(), allow_host or []
    with report_errors():
        served = processes.ScreensOptions(port or 0, host, names, trusted_proxy or [])
        served.check()
        home.create()
        processes.find_free_port(port, served.interface)  # fails for a port in use before anything is started
        started = processes.find_running_engine(home) is None
        try:
            if served.is_open or team:  # make sure that sign-in is on before the screens start
                processes.keep_engine(home, names)
                people.require_team(home, served, turn_on=team)
            served = replace(served, port=processes.find_free_port(port, served.interface))
            with processes.run_screens(home, served) as screens:  # these start in parallel with the engine
                processes.keep_engine(home, names)
                seconds = time.monotonic() - began

                def ready(address: str) -> None:
                    took = time.monotonic() - began
                    print_notice(
                        f"Engine ready after {seconds:.1f} s, web interface after {took:.1f} s. Home:"
                        f" {home.path}"
                    )
                    report_lost_commits(home)
                    people.print_entrance(home, served, address)
                    if browser:
                        open_browser(home, address)

                code = processes.serve_screens(
                    home, screens, served, ready, lambda: keep_engine_running(home, names)
                )
        finally:
            if started and processes.stop_engine(home):
                print_notice(
                    "Stopped. Active runs continue in the background; start again with `tunebench up`."
                )
                report_running_endpoints(home)
    raise SystemExit(code)


def report_lost_commits(home: Home) -> None:
    """Report commits that the store lacked when an engine opened it."""
    if loss := describe_recent_loss(settings.lost_commits(Client(home, secret=home.token)), time.time()):
        print_notice(loss)


def keep_engine_running(home: Home, names: list[str]) -> None:
    """Restart the engine if it has stopped."""
    if processes.keep_engine(home, names):
        print_notice("The engine stopped unexpectedly and was restarted; see logs/engine.log.")


@cli.command()
def down(json: Json = False) -> None:
    """Stop the web interface and the engine. Runs and endpoints continue in the background."""
    home = Home()
    with report_errors(json):
        screens = processes.stop_screens(home)  # first, as they would restart the engine
        if screens:
            print_notice("Stopped the web interface.")
        engine = processes.stop_engine(home)
        print_notice("Stopped the engine." if engine else "No engine was running.")
        report_running_endpoints(home)
        if json:
            print_json({"stopped": {"screens": screens, "engine": engine}})


@cli.command()
def url(json: Json = False) -> None:
    """Print the address of the web interface, including its secret."""
    with report_errors(json):
        entrance = processes.find_screens_address(Home())
        print_json({"url": entrance}) if json else print(entrance)


@cli.command()
def engine(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free port")] = 0,
    allow_host: AllowHost = None,
) -> None:
    """Run the engine in the foreground, with its log on stderr."""
    processes.forget_api_token()
    command = processes.build_engine_command(Home(), port, allow_host or [])
    os.chdir(processes.PROJECT)  # so that an `engine` module in the current folder isn't run instead
    os.execv(sys.executable, command)


@cli.command()
def screens(
    port: Port = None,
    host: Host = processes.LOOPBACK,
    allow_host: AllowHost = None,
    trusted_proxy: TrustedProxy = None,
) -> None:
    """Run the web interface for an engine that is already running."""
    processes.forget_api_token()
    home = Home()
    with report_errors():
        served = processes.ScreensOptions(port or 0, host, allow_host or [], trusted_proxy or [])
        served.check()
        if served.is_open:
            people.require_team(home, served)
        served = replace(served, port=processes.find_free_port(port, served.interface))
        with processes.run_screens(home.create(), served) as process:
            raise SystemExit(
                processes.serve_screens(home, process, served, lambda address: print(address, flush=True))
            )


cli.command("import")(import_)


@cli.command()
def launch(
    file: Annotated[Path, typer.Argument(help="Run config as YAML, or - for standard input")],
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Launch a run from a YAML file, with the same checks as the form."""
    with report_errors(json):
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} can't be read: {error}.", field="file") from error
        config = TrainConfig.from_yaml(text)
        client = connect(start=True)
        run_id = client.command("launch", config.model_dump(exclude_none=True))["run_id"]
        print_result(client, run_id, wait, json)


@cli.command()
def sample(json: Json = False) -> None:
    """Run the sample experiment: base and tuned loss, and the gain with its 95% CI."""
    home = Home()
    with report_errors(json):
        started = processes.find_running_engine(home) is None
        client = connect(start=True)
        run_id = client.command("launch_sample", {})["run_id"]
        try:
            job = watch_job(lambda: job_queue.get_job(client, run_id), "Sample experiment")
            code = {"finished": OK, "failed": FAILED}.get(job.status, STOPPED)
            training.print_sample(client, run_id, json)
        finally:
            if started and not job_queue.queue(client):
                processes.stop_engine(home)
    raise SystemExit(code)


@cli.command("runs")
def runs_(
    search: Annotated[str, typer.Option(help="Text in the name of the run, model or data set")] = "",
    status: Annotated[list[str] | None, typer.Option(help="Status filter; may be repeated")] = None,
    archived: Annotated[bool, typer.Option("--archived", help="List archived runs too")] = False,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    json: Json = False,
) -> None:
    """List runs, newest first."""
    with report_errors(json):
        client = connect()
        statuses = tuple(status or ())
        listed = runs.list_runs(client, search=search, statuses=statuses, archived=archived, limit=limit)
        total = runs.count_runs(client, search=search, statuses=statuses, archived=archived)
        everything = runs.count_runs(client, search=search, statuses=statuses, archived=True)
        if json:
            summaries = [training.summarize_run(run) for run in listed]
            print_json({"runs": summaries, "total": total, "hidden": everything - total})
        else:
            training.print_runs(listed, total, hidden=everything - total)


@cli.command()
def show(run: Annotated[str, typer.Argument(help="Run id or name")], json: Json = False) -> None:
    """Show one run with its verdict."""
    with report_errors(json):
        client = connect()
        print_result(client, runs.get_run(client, run).run_id, False, json)


@cli.command()
def cancel(run: str, json: Json = False) -> None:
    """Cancel a run. It saves a checkpoint from which it can be resumed."""
    send_change("cancel", {"job": run}, f"Cancelling {run}.", json)


@cli.command()
def resume(run: str, json: Json = False) -> None:
    """Resume a cancelled, failed or lost run from its last checkpoint."""
    send_change("resume", {"job": run}, f"{run} queued.", json)


@cli.command()
def delete(run: str, json: Json = False) -> None:
    """Delete an ended run with its metrics and files."""
    send_change("delete", {"job": run}, f"{run} deleted.", json)


@cli.command()
def edit(
    run: Annotated[str, typer.Argument(help="Run id or name")],
    name: Annotated[str | None, typer.Option(help="New name")] = None,
    notes: Annotated[str | None, typer.Option(help="New notes")] = None,
    json: Json = False,
) -> None:
    """Change the name or notes of a run."""
    body = {"run": run} | {k: v for k, v in (("name", name), ("notes", notes)) if v is not None}
    with report_errors(json):
        if len(body) == 1:
            raise ConfigError("No changes given.", fix="Give --name or --notes.")
    send_change("edit_run", body, f"{run} updated.", json)


@cli.command()
def tag(
    runs: Annotated[list[str], typer.Argument(help="Run ids or names")],
    add: Annotated[list[str] | None, typer.Option(help="Tag to add; may be repeated")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Tag to remove; may be repeated")] = None,
    json: Json = False,
) -> None:
    """Add tags to runs, and remove tags from them."""
    with report_errors(json):
        if not add and not remove:
            raise ConfigError("No tags given.", fix="Give --add or --remove.")
    body = {"runs": runs, "add_tags": add or [], "remove_tags": remove or []}
    send_change("organize_runs", body, f"{plural(len(runs), 'run')} tagged.", json)


@cli.command()
def archive(
    runs: Annotated[list[str], typer.Argument(help="Run ids or names")],
    undo: Annotated[bool, typer.Option("--undo", help="Take them out of the archive")] = False,
    json: Json = False,
) -> None:
    """Move runs to the archive: lists leave them out, and nothing is deleted."""
    where = "out of the archive" if undo else "archived"
    body = {"runs": runs, "archived": not undo}
    send_change("organize_runs", body, f"{plural(len(runs), 'run')} {where}.", json)


@cli.command()
def methods(json: Json = False) -> None:
    """List training methods: what they train, learning rates, and when to use them."""
    if json:
        print_json(methods_text.list_method_rows())
        return
    rows = methods_text.list_method_rows()
    print_rows(["method", "title", "when"], [[row["method"], row["title"], row["when"]] for row in rows])


@cli.command()
def metrics(json: Json = False) -> None:
    """List evaluation metrics with descriptions and options."""
    rows = reference_tables.list_metric_rows()
    if json:
        print_json(rows)
        return
    print_rows(["metric", "title", "means"], [[row["metric"], row["title"], row["means"]] for row in rows])


@cli.command()
def sql(
    statement: Annotated[str, typer.Argument(help="One read-only SQL statement")],
    format: Annotated[Literal["table", "csv", "json", "parquet"], typer.Option()] = "table",
) -> None:
    """Query the experiment store: run_overview, metric, metric_summary, dataset, job, prediction, …"""
    with report_errors(format == "json"):
        print_table(connect().people.query(statement), format)


def main() -> None:
    """Run the command line; an interrupt exits with 130 and without a traceback."""
    try:
        cli()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
