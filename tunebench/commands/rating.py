"""`tunebench round …`: rating rounds for scripts: create, list, view, close, export, turn into data sets."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from engine.rating.analysis.labels import compute_sampling_weights
from engine.rating.analysis.model_comparison import RankedSystem, compare, rank_systems
from engine.rating.analysis.rater_checks import compute_checks_from_table
from engine.rating.analysis.round_ratings import build_round_ratings, list_label_tasks, list_system_names
from engine.rating.exported_ratings import build_rating_table, build_text_rows, format_json_lines
from engine.rating.raters_text import describe_all_rater_checks, format_counted_ratings
from engine.rating.results_text import format_rank, format_share
from engine.rating.round_text import (
    TEXT_PROTOCOLS,
    RoundDescription,
    summarize_round,
    summarize_single_labels,
    summarize_text_round,
)
from store.core.documents import as_json
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.formatting import plural
from store.core.job_folder import write_atomically
from store.core.rating_schemas import RoundSummary
from store.core.table_values import write_csv
from store.http.client import Client
from store.jobs import job_queue
from store.rating import ratings, rounds, workload
from store.rating.config import ImportRound, RoundConfig
from store.rating.rating_files import format_rating_file
from store.rating.schemas import RatingFileSummary
from store.rating.workload import describe_remaining
from tunebench.terminal.connection import (
    Json,
    Wait,
    connect,
    parse_columns,
    parse_pairs,
    read_document,
    send_change,
    upload_files,
)
from tunebench.terminal.features import TerminalFeature
from tunebench.terminal.options import Options, add_options
from tunebench.terminal.output import (
    err,
    out,
    print_json,
    print_notice,
    print_rows,
    report_errors,
    require_finished,
    watch_job,
)

PREVIEW_SECONDS = 60.0  # timeout of a preview
round_commands = typer.Typer(
    no_args_is_help=True, help="Rating rounds: raters compare answers without knowing which model wrote them."
)
TABLE_FILES: dict[str, Callable[[pa.Table, Any], None]] = {".csv": write_csv, ".parquet": pq.write_table}
RoundName = Annotated[str, typer.Argument(help="Round id or name")]


@round_commands.command("list")
def list_(json: Json = False) -> None:
    """List rounds, open ones first."""
    with report_errors(json):
        listed = rounds.list_rounds(connect())
        if json:
            print_json({"rounds": listed})
            return
        print_rows(
            ["round", "name", "how", "state", "prompts", "ratings", "people"],
            [
                [
                    r.round_id,
                    r.name,
                    r.protocol,
                    r.state,
                    r.item_count,
                    r.rated,
                    r.raters,
                ]
                for r in listed
            ],
            plural(len(listed), "round"),
        )


@round_commands.command()
def show(name: RoundName, json: Json = False) -> None:
    """Show the results of a closed round, with confidence intervals."""
    with report_errors(json):
        client = connect()
        round = _find_closed_round(client, name)
        with err.status("Computing results"):
            sentences, ranked = _read_results(client, round)
        if json:
            models = [
                {"name": each.name, "ranks": [each.best, each.worst], **as_json(each.share.to_estimate())}
                for each in ranked
            ]
            document = {"round": round, "systems": list_system_names(round), "ranking": models}
            print_json(document | sentences._asdict())
            return
        for title, lines in sentences._asdict().items():
            out.print(title.capitalize(), style="bold")
            for line in lines:
                out.print(f"  {line}", markup=False)
        if len(ranked) > 2:
            _print_ranking(ranked)
        for notice in round.details.notices:
            out.print(notice, markup=False)


@round_commands.command()
def start(
    file: Annotated[
        Path,
        typer.Argument(help="Round config as YAML (name, models, prompts_file, …), or - for standard input"),
    ],
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Create a round and open it. Missing model responses are generated first."""
    with report_errors(json):
        config = RoundConfig.parse(read_document(file))
        for given in (config.prompts_file, config.gold_file):
            if given and given.path:
                given.path = str(Path(given.path).expanduser().resolve())
        client = connect(start=True)
        document = config.document()
        if config.prompts_file:
            document["prompts_file"] = upload_files(client, document["prompts_file"])
        if config.gold_file:
            document["gold_file"] = upload_files(client, document["gold_file"])
        made = client.command("start_round", document)
        if wait:
            require_finished(
                watch_job(lambda: job_queue.get_job(client, made["round_id"]), "Generating responses"),
                "The round was",
            )
        print_json(made) if json else print_notice(f"Created round {made['round_id']}.")


@round_commands.command("import")
@add_options("given", ImportRound, "name", "form", "ignore", "first", "second")
def import_(
    given: Options,
    file: Annotated[
        Path, typer.Argument(help="File with votes, scores or labels: JSON, JSONL, CSV or Parquet")
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Column mapping role=column, such as rater=worker (role= for none); may be repeated"
        ),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(help="Value mapping, such as X=first, unsure=leave_out or good=3; may be repeated"),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Preview how the file is read, without importing")
    ] = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Import a round rated elsewhere: one vote per row, or one column per rater."""
    with report_errors(json):
        config = ImportRound.parse(
            {
                **given,
                "path": str(file.expanduser().resolve()),
                "columns": parse_columns(column or []),
                "values": parse_pairs("value", "value=meaning", value or []),
            }
        )
        client = connect(start=True)
        body = upload_files(client, config.model_dump(exclude_none=True))
        if preview:
            read = client.ask("ratings_file", body, RatingFileSummary, timeout=PREVIEW_SECONDS)
            print_json(read) if json else _print_preview(read)
            return
        job_id = client.command("import_round", body)["job_id"]
        if wait:
            require_finished(
                watch_job(lambda: job_queue.get_job(client, job_id), "Reading"), "The import was"
            )
        if json:
            print_json({"round_id": job_id})
            return
        for notice in rounds.line(client, job_id).details.notices if wait else []:
            print_notice(notice)
        print_notice(f"Created round {job_id}.")


def _print_preview(read: RatingFileSummary) -> None:
    """Print how a file is read, open questions, its content, and its first ratings."""
    for line in format_rating_file(read):
        print_notice(line)
    if read.first:
        rows = [[line.prompt[:60], " | ".join(line.models), line.rater, line.rating] for line in read.first]
        print_rows(["prompt", "models", "rater", "rating"], rows, plural(read.ratings, "rating"))


@round_commands.command()
def close(name: RoundName, json: Json = False) -> None:
    """Close a round and make its results available."""
    with report_errors(json):
        round = _find_round(connect(), name)
        send_change("close_round", {"round": round.round_id}, "Round closed.", json)


@round_commands.command("workload")
def workload_(name: RoundName, json: Json = False) -> None:
    """Show the progress of raters: completed, assigned and remaining tasks."""
    with report_errors(json):
        client = connect()
        work = workload.workload(client, _find_round(client, name).round_id, job_queue.to_utc(time.time()))
        if json:
            print_json(work)
            return
        print_rows(
            ["person", "named", "quota", "rated", "skipped", "held", "seconds per item", "last active"],
            [
                [
                    *(rater.person_name, "yes" if rater.assigned else "", rater.quota),
                    *(rater.rated, rater.skipped, rater.held),
                    None if rater.median_seconds is None else f"{rater.median_seconds:.1f}",
                    rater.last_active,
                ]
                for rater in work.raters
            ],
        )
        out.print(" ".join(describe_remaining(work)), markup=False)


@round_commands.command()
def assign(
    name: RoundName,
    rater: Annotated[
        list[str] | None,
        typer.Option(help="E-mail address, name or id, optionally with a quota: bob@example.org=20"),
    ] = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Assign everyone who can rate")] = False,
    json: Json = False,
) -> None:
    """Set the raters of a round, replacing the previous ones."""
    with report_errors(json):
        raters = []
        for each in rater or []:
            person, _, quota = each.rpartition("=")
            has_quota = person and quota.isdigit()
            raters.append({"person": person, "quota": int(quota)} if has_quota else {"person": each})
        body: dict[str, Any] = {"raters": raters, "everybody": everybody}
        round = _find_round(connect(), name)
        send_change("assign_round", {"round": round.round_id, **body}, "Raters saved.", json)


@round_commands.command()
def release(
    name: RoundName,
    rater: Annotated[str, typer.Option(help="Person id or name; default: all raters")] = "",
    json: Json = False,
) -> None:
    """Release tasks held by raters, so that others can rate them."""
    with report_errors(json):
        client = connect()
        round_id = _find_round(client, name).round_id
        body = {"round": round_id, "person": _find_person_id(client, round_id, rater) if rater else ""}
        send_change("release_round", body, "Tasks released.", json)


@round_commands.command()
def reopen(name: RoundName, json: Json = False) -> None:
    """Reopen a closed round. Results are available again once it is closed."""
    with report_errors(json):
        round = _find_round(connect(), name)
        send_change("open_round", {"round": round.round_id}, "Round reopened.", json)


@round_commands.command()
def export(
    name: RoundName,
    file: Annotated[Path, typer.Argument(help="Output file (.csv or .parquet)")],
    json: Json = False,
) -> None:
    """Export all ratings of a closed round to a file, one rating per row."""
    with report_errors(json):
        if (write := TABLE_FILES.get(file.suffix.lower())) is None:
            raise ConfigError(
                f"Unsupported file type: {file.name}.", fix="Use a file name ending in .csv or .parquet."
            )
        client = connect()
        round = _find_closed_round(client, name)
        round_id = round.round_id
        left_out = {rater.person_id for rater in ratings.left_out(client, round_id)}
        table = build_rating_table(
            round, ratings.dealt(client, round_id), rounds.items(client, round_id), left_out
        )
        with write_atomically(file) as unfinished, open(unfinished, "wb") as out_file:
            write(table, out_file)
        document = {"file": str(file), "ratings": table.num_rows, "columns": table.column_names}
        print_json(document) if json else print_notice(f"{plural(table.num_rows, 'rating')} in {file}.")


@round_commands.command()
def data(
    name: RoundName,
    dataset: Annotated[
        str, typer.Option("--name", help="Name of the data set; default: the name of the round")
    ] = "",
    agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum share of votes for the chosen response")
    ] = 0.5,
    votes: Annotated[int, typer.Option(min=1, max=20, help="Minimum votes per pair")] = 1,
    include_flagged: Annotated[
        bool, typer.Option(help="Include ratings of raters flagged as too fast or failing check items")
    ] = False,
    lines: Annotated[
        Path | None, typer.Option("--out", help="JSON Lines output file, for multi-label and span rounds")
    ] = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Create a data set from a round: preferences, or training rows from corrections, labels or free text.

    Multi-label and span rounds, on which no run trains, are written to a JSON Lines file (--out)."""
    with report_errors(json):
        client = connect(start=lines is None)
        if lines is not None:
            limits = {"agreement": agreement, "least_votes": votes, "include_flagged": include_flagged}
            document = _write_lines(client, _find_closed_round(client, name), lines, limits)
            print_json(document) if json else print_notice(f"{plural(document['rows'], 'row')} in {lines}.")
            return
        body = {"round": _find_round(client, name).round_id, "name": dataset, "agreement": agreement}
        body |= {"least_votes": votes, "include_flagged": include_flagged}
        made: dict[str, Any] = client.command("rows_from_round", body)
        if wait:
            require_finished(
                watch_job(lambda: job_queue.get_job(client, made["job_id"]), "Importing"), "The import was"
            )
        if json:
            print_json(made)
            return
        print_notice(
            f"{plural(made['rows'], 'row')} in {made['dataset']}, of"
            f" {format_counted_ratings(made['counted'])}."
        )
        for each in made["counted"]["left_out"]:
            print_notice(
                f"Excluded {plural(each['ratings'], 'rating')} by {each['rater']}: {each['reason']}."
            )


def _find_round(client: Client, name: str) -> RoundSummary:
    """Return the round with that id, or the newest with that name. Raises NotFoundError."""
    for round in rounds.list_rounds(client):
        if name in (round.round_id, round.name):
            return round
    raise NotFoundError(f"Rating round {name!r} not found.", fix="List them with: tunebench round list")


def _find_closed_round(client: Client, name: str) -> RoundSummary:
    """Return a round whose ratings may be viewed. Raises StateError if it is open."""
    round = _find_round(client, name)
    if round.state == "open":
        raise StateError(
            f"{round.name} is open. Results are available once it is closed.",
            fix=f"Close it with: tunebench round close {round.round_id}",
        )
    return round


def _write_lines(client: Client, round: RoundSummary, file: Path, limits: dict[str, Any]) -> dict[str, Any]:
    """Write the rows of a multi-label or span round to a file; return the counts."""
    round_id = round.round_id
    by_hand = {rater.person_id for rater in ratings.left_out(client, round_id)}
    tasks, items = ratings.dealt(client, round_id), rounds.items(client, round_id)
    made, counted = build_text_rows(round, tasks, items, by_hand, **limits)
    with write_atomically(file) as unfinished:
        unfinished.write_text(format_json_lines(made), encoding="utf-8")
    return {"file": str(file), "rows": len(made.rows), "left_out": dict(made.left_out), "counted": counted}


def _find_person_id(client: Client, round_id: str, name: str) -> str:
    """Return the id of a rater of the round. Raises NotFoundError."""
    for rater in workload.workload(client, round_id, job_queue.to_utc(time.time())).raters:
        if name in (rater.person_id, rater.person_name):
            return rater.person_id
    raise NotFoundError(
        f"{name!r} is not a rater of this round.", fix=f"List them with: tunebench round workload {round_id}"
    )


class _RoundResults(NamedTuple):
    """Results of a round; ranked: models of a comparison round, the strongest first."""

    sentences: RoundDescription
    ranked: list[RankedSystem]


def _read_results(client: Client, round: RoundSummary) -> _RoundResults:
    round_id = round.round_id
    left_out = {rater.person_id for rater in ratings.left_out(client, round_id)}
    rated, asked_checks = ratings.rated(client, round_id), ratings.check_tasks(client, round_id)
    check_ids = sorted({task.item_id for task in asked_checks})
    checked = rounds.some_items(client, round_id, check_ids) if check_ids else {}
    graded = compute_checks_from_table(round, rated, asked_checks, checked.values())
    checks = describe_all_rater_checks(graded, left_out)
    if round.protocol in TEXT_PROTOCOLS:
        bare = round.protocol == "label" and not round.config.get("several_labels")
        items = rounds.items(client, round_id, prompts=not bare)
        asked = rounds.requests_of_round(client, round_id)
        weights = compute_sampling_weights(round, items, asked)
        texts: RoundDescription | None
        if bare:
            texts = summarize_single_labels(round, list_label_tasks(rated), items, asked, weights, left_out)
        else:
            tasks = ratings.dealt(client, round_id)
            texts = summarize_text_round(round, tasks, items, asked, weights, left_out)
        if texts:
            return _RoundResults(texts._replace(raters=[*texts.raters, *checks]), [])
    given = build_round_ratings(round, rated, left_out)
    compared = None if given.comparisons is None else compare(given.comparisons)
    ranked = [] if compared is None else rank_systems(compared.plain)
    sentences = summarize_round(given, compared)
    return _RoundResults(sentences._replace(raters=[*sentences.raters, *checks]), ranked)


def _print_ranking(ranked: list[RankedSystem]) -> None:
    """Print a ranking of many models, as the sentences only name the first."""
    print_rows(
        ["rank", "model", "win rate vs. average", "ratings"],
        [[format_rank(each), each.name, format_share(each.share), f"{each.n:,}"] for each in ranked],
        "Possible ranks, based on significant differences.",
    )


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.add_typer(round_commands, name="round")


FEATURE = TerminalFeature(register)
