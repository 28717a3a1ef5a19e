"""`tunebench round …`: rating rounds, for scripts: start, list, read, close, and make data of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.diagnostics.phrasing import plural
from engine.diagnostics.rating.raters.flagged import counted_sentence, rater_checks
from engine.diagnostics.rating.raters.label_figures import chance_weights, label_figures, served_labels
from engine.diagnostics.rating.rows.of_round import of_round, system_names
from engine.diagnostics.rating.words.check_words import raters_lines
from engine.diagnostics.rating.words.label_words import label_sentences
from engine.diagnostics.rating.words.round_words import RoundSentences, round_sentences
from store.config.judging.round_config import RoundConfig
from store.contract.errors import NotFoundError, StateError
from store.documents.rating.round import RoundLine
from store.http.client import Client
from store.queries import jobs
from store.queries.rating import ratings, round_requests, rounds
from tunebench.terminal.connection import Json, Wait, change, connect, with_files
from tunebench.terminal.documents import read_document
from tunebench.terminal.output import errors, out, print_json, print_rows, require_finished, say, watch

round_commands = typer.Typer(
    no_args_is_help=True, help="Rating rounds: people say which answers are better, without knowing whose."
)
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
        round = _find(client, name)
        if round["state"] == "open":
            raise StateError(
                f"{round['name']} is open: what people said is told once it is closed.",
                fix=f"Close it with: tunebench round close {round['round_id']}",
            )
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
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Make preferences (or, of a round of corrections or labels, training rows) out of a round."""
    with errors(json):
        client = connect(start=True)
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


def _sentences(client: Client, round: RoundLine) -> RoundSentences:
    round_id = round["round_id"]
    left_out = {rater["person_id"] for rater in ratings.left_out(client, round_id)}
    tasks, items = ratings.dealt(client, round_id), rounds.items(client, round_id)
    asked = round_requests.of_round(client, round_id)
    checks = raters_lines(rater_checks(round, tasks, items), left_out)
    if round["protocol"] == "label":
        weights = chance_weights(round, items, asked)
        figures = label_figures(tasks, served_labels(round, items, asked), weights, left_out)
        sentences = label_sentences(figures)
        return sentences._replace(raters=[*sentences.raters, *checks])
    telling = {each["item_id"] for each in asked if not each["random"]}  # no figure rests on them
    tasks = [task for task in tasks if task["item_id"] not in telling]
    sentences = round_sentences(of_round(round, tasks, items, left_out))
    return sentences._replace(raters=[*sentences.raters, *checks])
