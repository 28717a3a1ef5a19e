"""`tunebench advise`: which method, for a model and a data set on this machine; what the screen shows too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from engine.diagnostics.launch import advisor
from pages.shared import quantities
from store.config.training.train_config import BUNDLED_MODEL, TrainConfig, split_of
from store.documents.asks.advice import Advice, AdviceOption, Recommendation
from store.documents.figures.estimate import Estimate
from store.documents.tables.machine import HourPrice
from store.queries import settings
from store.queries.data import datasets
from tunebench.commands.runs.reports import gain_text
from tunebench.terminal.connection import Json, connect
from tunebench.terminal.output import errors, out, print_json, print_rows, say


def advise(
    dataset: Annotated[str, typer.Option(help="Name or id of a data set")],
    model: Annotated[str, typer.Option(help="A bundled model, a local folder or a hub id")] = BUNDLED_MODEL,
    task: Annotated[str, typer.Option(help="sft, classification or dpo")] = "sft",
    max_train_rows: Annotated[int | None, typer.Option(min=1)] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="Of an hour; the kept one where left out")
    ] = None,
    json: Json = False,
) -> None:
    """Compare the methods: memory, time, cost, what runs measured, and which to take."""
    with errors(json):
        client = connect(start=True)
        data = datasets.get_dataset(client, dataset)
        asked = {"dataset": dataset, "model": model, "task": task, "max_train_rows": max_train_rows}
        config = TrainConfig.parse({k: v for k, v in asked.items() if v is not None}).model_dump(
            exclude_unset=True
        )
        body = {"config": config, "fingerprint": data["fingerprint"], "split": split_of(config, data)}
        answer: Advice = client.ask("advice", body)
        kept = settings.price(client)
        per_hour = kept["per_hour"] if price is None else price
        options = [_priced(option, per_hour) for option in answer["options"]]
        asked_price: HourPrice = {"per_hour": per_hour, "currency": kept["currency"]}
        if json:
            print_json({**answer, "options": options, "price": asked_price})
        else:
            _print(answer["recommendation"], options, asked_price)


class PricedOption(AdviceOption):
    """A method with what it costs: least, expected and most; null without a price or a time."""

    cost: tuple[float, float, float] | None


def _priced(option: AdviceOption, per_hour: float | None) -> PricedOption:
    return {**option, "cost": advisor.cost(option, per_hour)}


def _print(recommendation: Recommendation, options: Sequence[PricedOption], price: HourPrice) -> None:
    for sentence in (recommendation["sentence"], *recommendation["reasons"]):
        out.print(sentence, markup=False, soft_wrap=True)
    columns = [
        "method",
        "memory",
        "fits",
        "time",
        f"cost ({price['currency']})",
        "energy",
        "on disk",
    ]
    rows = [_row(option) for option in options if not option["problem"]]
    print_rows([*columns, "gain"], rows)
    for option in options:
        if option["problem"]:
            say(f"{option['title']}: {option['problem']}")


def _row(option: PricedOption) -> list[str]:
    cost, energy, past = option["cost"], option["energy_wh"], option["past"]
    gain = "–"
    if past and past["gain"] is not None:
        interval: Estimate = {
            "value": past["gain"],
            "low": past["low"],
            "high": past["high"],
            "n": past["n"] or 0,
        }
        gain = f"{gain_text(interval)} {past['unit']}"
    return [
        option["title"],
        quantities.gib_between(option["low_gib"], option["high_gib"]),
        "yes" if option["fits"] else "no",
        quantities.span_between(option["low_seconds"], option["high_seconds"]),
        f"{cost[0]:,.2f} to {cost[2]:,.2f}" if cost else "no price",
        f"{energy[0]:,.0f} to {energy[2]:,.0f} Wh" if energy else "unknown",
        quantities.size(option["disk_bytes"]),
        gain,
    ]
