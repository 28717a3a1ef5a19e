"""`tunebench round …`: rating rounds, for scripts: start, list, read, close, export, make data of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from engine.diagnostics.phrasing import plural
from engine.diagnostics.rating.raters.flagged import counted_sentence, rater_checks
from engine.diagnostics.rating.raters.label_figures import chance_weights
from engine.diagnostics.rating.rows.of_round import of_round, system_names
from engine.diagnostics.rating.rows.rating_table import rating_table
from engine.diagnostics.rating.words.check_words import raters_lines
from engine.diagnostics.rating.words.round_words import RoundSentences, round_sentences
from engine.diagnostics.rating.words.text_words import text_sentences
from engine.rounds.text_rows import json_lines, text_rows
from store.config.judging.round_config import RoundConfig
from store.contract.csv_cells import write_csv
from store.contract.errors import ConfigError, NotFoundError, StateError
from store.contract.jobdir import written_aside
from store.documents.rating.round import RoundLine
from store.http.client import Client
from store.queries import jobs
from store.queries.rating import ratings, round_requests, rounds, workload
from store.words.workload_words import left_words
from tunebench.terminal.connection import Json, Wait, change, connect, with_files
from tunebench.terminal.documents import read_document
from tunebench.terminal.output import errors, out, print_json, print_rows, require_finished, say, watch

round_commands = typer.Typer(
    no_args_is_help=True, help="Rating rounds: people say which answers are better, without knowing whose."
)
TABLE_FILES: dict[str, Callable[[pa.Table, Any], None]] = {".csv": write_csv, ".parquet": pq.write_table}
RoundName = Annotated[str, typer.Argument(help="Id or name of a round")]


@round_commands.command("list")
def list_(json: Json = False) -> None:
    """Every round, open ones first."""
    with errors(json):
        listed = rounds.list_rounds(connect())
        if json:
            print_json({"rounds": listed})
            return
        print_rows(
            ["round", "name", "how", "state", "prompts", "ratings", "people"],
            [
                [
                    r["round_id"],
                    r["name"],
                    r["protocol"],
                    r["state"],
                    r["item_count"],
                    r["rated"],
                    r["raters"],
                ]
                for r in listed
            ],
            plural(len(listed), "round"),
        )


@round_commands.command()
def show(name: RoundName, json: Json = False) -> None:
    """What a closed round came to, in sentences with intervals."""
    with errors(json):
        client = connect()
        round = _closed(client, name)
        sentences = _sentences(client, round)
        if json:
            print_json({"round": round, "systems": system_names(round), **sentences._asdict()})
            return
        for title, lines in sentences._asdict().items():
            out.print(title.capitalize(), style="bold")
            for line in lines:
                out.print(f"  {line}", markup=False)
        for notice in round["details"]["notices"]:
            out.print(notice, markup=False)


@round_commands.command()
def start(
    file: Annotated[Path, typer.Argument(help="The round as YAML (name, models, prompts_file, …), or -")],
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Gather the answers and open the round; models that have not answered do so first."""
    with errors(json):
        config = RoundConfig.parse(read_document(file))
        for given in (config.prompts_file, config.gold_file):
            if given and given.path:
                given.path = str(Path(given.path).expanduser().resolve())
        client = connect(start=True)
        document = config.document()
        if config.prompts_file:
            document["prompts_file"] = with_files(client, document["prompts_file"])
        if config.gold_file:
            document["gold_file"] = with_files(client, document["gold_file"])
        made = client.command("start_round", document)
        if wait:
            require_finished(
                watch(lambda: jobs.get_job(client, made["round_id"]), "Gathering"), "The round was"
            )
        print_json(made) if json else say(f"The round is {made['round_id']}.")


@round_commands.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Prompt, two answers and votes: JSON, JSONL, CSV, Parquet")],
    first: Annotated[str, typer.Option(help="Who wrote the first answer")] = "",
    second: Annotated[str, typer.Option(help="Who wrote the second")] = "",
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Take in a round that people rated elsewhere."""
    with errors(json):
        client = connect(start=True)
        body = with_files(client, {"path": str(file.resolve()), "first": first, "second": second})
        job_id = client.command("import_round", body)["job_id"]
        if wait:
            require_finished(watch(lambda: jobs.get_job(client, job_id), "Reading"), "The import was")
        print_json({"round_id": job_id}) if json else say(f"The round is {job_id}.")


@round_commands.command()
def close(name: RoundName, json: Json = False) -> None:
    """Nobody rates any more, and the results can be read."""
    with errors(json):
        round = _find(connect(), name)
        change("close_round", {"round": round["round_id"]}, "The round is closed.", json)


@round_commands.command("workload")
def workload_(name: RoundName, json: Json = False) -> None:
    """Who has rated how much of a round, what lies with whom, and how much is left."""
    with errors(json):
        client = connect()
        work = workload.workload(client, _find(client, name)["round_id"], jobs.utc(time.time()))
        if json:
            print_json(dict(work))
            return
        print_rows(
            ["person", "named", "quota", "rated", "skipped", "held", "seconds for one", "last active"],
            [
                [
                    *(rater["person_name"], "yes" if rater["assigned"] else "", rater["quota"]),
                    *(rater["rated"], rater["skipped"], rater["held"]),
                    None if rater["median_seconds"] is None else f"{rater['median_seconds']:.1f}",
                    rater["last_active"],
                ]
                for rater in work["raters"]
            ],
        )
        out.print(" ".join(left_words(work)), markup=False)


@round_commands.command()
def assign(
    name: RoundName,
    rater: Annotated[
        list[str] | None, typer.Option(help="E-mail address, name or id; with a quota as bob@example.org=20")
    ] = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Whoever may rate")] = False,
    json: Json = False,
) -> None:
    """Have these people rate a round, and nobody else."""
    with errors(json):
        body: dict[str, Any] = {"raters": [_rater(each) for each in rater or []], "everybody": everybody}
        round = _find(connect(), name)
        change("assign_round", {"round": round["round_id"], **body}, "It is kept who rates the round.", json)


@round_commands.command()
def release(
    name: RoundName,
    rater: Annotated[str, typer.Option(help="Of this person alone, by name or id")] = "",
    json: Json = False,
) -> None:
    """Have what raters hold go to whoever asks next."""
    with errors(json):
        client = connect()
        round_id = _find(client, name)["round_id"]
        body = {"round": round_id, "person": _person_id(client, round_id, rater) if rater else ""}
        change("release_round", body, "What lay with raters is free.", json)


@round_commands.command()
def reopen(name: RoundName, json: Json = False) -> None:
    """Have a closed round rated further; its results are told again once it is closed."""
    with errors(json):
        round = _find(connect(), name)
        change("open_round", {"round": round["round_id"]}, "The round is open again.", json)


@round_commands.command()
def export(
    name: RoundName,
    file: Annotated[Path, typer.Argument(help="A file that ends with .csv or .parquet")],
    json: Json = False,
) -> None:
    """Write all ratings of a closed round to a file, a row a rating."""
    with errors(json):
        if (write := TABLE_FILES.get(file.suffix.lower())) is None:
            raise ConfigError(
                f"{file.name} is neither CSV nor Parquet.", fix="End its name with .csv or .parquet."
            )
        client = connect()
        round = _closed(client, name)
        round_id = round["round_id"]
        left_out = {rater["person_id"] for rater in ratings.left_out(client, round_id)}
        table = rating_table(round, ratings.dealt(client, round_id), rounds.items(client, round_id), left_out)
        with written_aside(file) as unfinished, open(unfinished, "wb") as out_file:
            write(table, out_file)
        document = {"file": str(file), "ratings": table.num_rows, "columns": table.column_names}
        print_json(document) if json else say(f"{plural(table.num_rows, 'rating')} in {file}.")


@round_commands.command()
def data(
    name: RoundName,
    dataset: Annotated[str, typer.Option("--name", help="Of the data set; from the round's otherwise")] = "",
    agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Share of votes for the chosen answer")
    ] = 0.5,
    votes: Annotated[int, typer.Option(min=1, max=20, help="Votes on a pair at least")] = 1,
    include_flagged: Annotated[
        bool, typer.Option(help="Ratings of raters flagged as too fast or failing check items, too")
    ] = False,
    lines: Annotated[
        Path | None, typer.Option("--out", help="Of several labels and spans: write JSON lines to this file")
    ] = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Make preferences (or, of a round of corrections, labels or free text, training rows) out of a round; of
    several labels and of spans, which no run trains on, a file of JSON lines (--out)."""
    with errors(json):
        client = connect(start=lines is None)
        if lines is not None:
            limits = {"agreement": agreement, "least_votes": votes, "include_flagged": include_flagged}
            document = _write_lines(client, _closed(client, name), lines, limits)
            print_json(document) if json else say(f"{plural(document['rows'], 'row')} in {lines}.")
            return
        body = {"round": _find(client, name)["round_id"], "name": dataset, "agreement": agreement}
        body |= {"least_votes": votes, "include_flagged": include_flagged}
        made: dict[str, Any] = client.command("rows_from_round", body)
        if wait:
            require_finished(
                watch(lambda: jobs.get_job(client, made["job_id"]), "Importing"), "The import was"
            )
        if json:
            print_json(made)
            return
        say(f"{plural(made['rows'], 'row')} in {made['dataset']}, of {counted_sentence(made['counted'])}.")
        for each in made["counted"]["left_out"]:
            say(f"Left out {plural(each['ratings'], 'rating')} of {each['rater']}: {each['reason']}.")


def _find(client: Client, name: str) -> RoundLine:
    """The round of that id, or the newest of that name. Raises NotFoundError."""
    for round in rounds.list_rounds(client):
        if name in (round["round_id"], round["name"]):
            return round
    raise NotFoundError(f"There is no rating round {name!r}.", fix="List them with: tunebench round list")


def _closed(client: Client, name: str) -> RoundLine:
    """The round, whose ratings may be seen. Raises StateError for one that is open."""
    round = _find(client, name)
    if round["state"] == "open":
        raise StateError(
            f"{round['name']} is open: what people said is told once it is closed.",
            fix=f"Close it with: tunebench round close {round['round_id']}",
        )
    return round


def _write_lines(client: Client, round: RoundLine, file: Path, limits: dict[str, Any]) -> dict[str, Any]:
    """Write the rows of a round of several labels or of spans; what came of it."""
    round_id = round["round_id"]
    by_hand = {rater["person_id"] for rater in ratings.left_out(client, round_id)}
    tasks, items = ratings.dealt(client, round_id), rounds.items(client, round_id)
    made, counted = text_rows(round, tasks, items, by_hand, **limits)
    with written_aside(file) as unfinished:
        unfinished.write_text(json_lines(made), encoding="utf-8")
    return {"file": str(file), "rows": len(made.rows), "left_out": dict(made.left_out), "counted": counted}


def _rater(text: str) -> dict[str, Any]:
    """A person, with a quota after "=" where it has one."""
    person, _, quota = text.rpartition("=")
    return {"person": person, "quota": int(quota)} if person and quota.isdigit() else {"person": text}


def _person_id(client: Client, round_id: str, name: str) -> str:
    """Of a rater of the round. Raises NotFoundError."""
    for rater in workload.workload(client, round_id, jobs.utc(time.time()))["raters"]:
        if name in (rater["person_id"], rater["person_name"]):
            return rater["person_id"]
    raise NotFoundError(
        f"{name!r} does not rate this round.", fix=f"List them with: tunebench round workload {round_id}"
    )


def _sentences(client: Client, round: RoundLine) -> RoundSentences:
    round_id = round["round_id"]
    left_out = {rater["person_id"] for rater in ratings.left_out(client, round_id)}
    tasks, items = ratings.dealt(client, round_id), rounds.items(client, round_id)
    asked = round_requests.of_round(client, round_id)
    checks = raters_lines(rater_checks(round, tasks, items), left_out)
    weights = chance_weights(round, items, asked)
    if told := text_sentences(round, tasks, items, asked, weights, left_out):
        return told._replace(raters=[*told.raters, *checks])
    telling = {each["item_id"] for each in asked if not each["random"]}  # no figure rests on them
    tasks = [task for task in tasks if task["item_id"] not in telling]
    sentences = round_sentences(of_round(round, tasks, items, left_out))
    return sentences._replace(raters=[*sentences.raters, *checks])
