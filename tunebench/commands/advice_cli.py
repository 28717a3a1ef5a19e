"""`tunebench advise`: which method, for a model and a data set on this machine; what the screen shows too."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from engine.diagnostics.launch import advisor
from pages.shared import quantities
from store.config.train_config import BUNDLED_MODEL, TrainConfig, split_of
from store.queries import settings
from store.queries.data import datasets
from tunebench.commands.reports import gain_text
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
        rows = datasets.get_dataset(client, dataset)
        asked = {"dataset": dataset, "model": model, "task": task, "max_train_rows": max_train_rows}
        config = TrainConfig.parse({k: v for k, v in asked.items() if v is not None}).model_dump(
            exclude_unset=True
        )
        body = {"config": config, "fingerprint": rows["fingerprint"], "split": split_of(config, rows)}
        answer = client.ask("advice", body)
        kept = settings.price(client)
        per_hour = kept["per_hour"] if price is None else price
        for option in answer["options"]:
            option["cost"] = advisor.cost(option, per_hour)
        answer["price"] = {"per_hour": per_hour, "currency": kept["currency"]}
        print_json(answer) if json else _print(answer)


def _print(answer: dict[str, Any]) -> None:
    found = answer["recommendation"]
    for sentence in (found["sentence"], *found["reasons"]):
        out.print(sentence, markup=False, soft_wrap=True)
    columns = [
        "method",
        "memory",
        "fits",
        "time",
        f"cost ({answer['price']['currency']})",
        "energy",
        "on disk",
    ]
    rows = [_row(option) for option in answer["options"] if not option["problem"]]
    print_rows([*columns, "gain"], rows)
    for option in answer["options"]:
        if option["problem"]:
            say(f"{option['title']}: {option['problem']}")


def _row(option: dict[str, Any]) -> list[str]:
    cost, energy, past = option["cost"], option["energy_wh"], option["past"]
    gain = past and past["gain"] is not None
    return [
        option["title"],
        quantities.gib_between(option["low_gib"], option["high_gib"]),
        "yes" if option["fits"] else "no",
        quantities.span_between(option["low_seconds"], option["high_seconds"]),
        f"{cost[0]:,.2f} to {cost[2]:,.2f}" if cost else "no price",
        f"{energy[0]:,.0f} to {energy[2]:,.0f} Wh" if energy else "unknown",
        quantities.size(option["disk_bytes"]),
        f"{gain_text({**past, 'value': past['gain']})} {past['unit']}" if gain else "–",
    ]
