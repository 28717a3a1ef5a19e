"""Rounds that were rated elsewhere, out of files as the world stores them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import evalica
import numpy as np
import pytest

from engine.rating.analysis.rates import compute_criterion_means
from engine.rating.analysis.round_ratings import build_round_ratings
from engine.rating.analysis.strengths import estimate_strengths
from engine.rating.jobs import inspect_ratings
from engine.server.sync_jobs import create_spec_folder
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError, DataError
from store.core.rating_schemas import AssignedTask
from store.rating import ratings, rounds
from store.rating.rating_files import format_rating_file
from store.rating.schemas import RatingFileSummary
from tests.unit.rating.round_desk import RoundDesk

PAIR = {"instruction": "Add.", "input": "1 and 1", "response1": "2", "response2": "<b>3</b>"}
BATTLE = {"question_id": 7, "prompt": "Why?", "response_a": "Because.", "response_b": "No idea."}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RoundDesk]:
    desk = RoundDesk(tmp_path, prompts=1)
    yield desk
    desk.database.close()


def written(desk: RoundDesk, rows: list[dict[str, Any]]) -> str:
    file = desk.home.uploads / "votes.json"
    file.write_text(json.dumps(rows))
    return str(file)


def imported(desk: RoundDesk, rows: list[dict[str, Any]], **config: Any) -> str:
    job_id = desk("import_round", path=written(desk, rows), **config)["job_id"]
    desk.do(job_id)
    return job_id


def looked_at(desk: RoundDesk, rows: list[dict[str, Any]], **config: Any) -> RatingFileSummary:
    body = {"path": written(desk, rows), **config}
    return inspect_ratings.run(WorkerJob(create_spec_folder(desk.home, "ratings_file", "cpu", body).path))


def verdicts(desk: RoundDesk, round_id: str) -> list[tuple[str, str, str]]:
    """Who said of whose answer beside whose that it is better, or what else."""
    names = [system.name for system in rounds.get(desk.database, round_id).systems]
    rows = []
    for task in in_order(desk, round_id):
        pair = [names[system] for system in task.systems]
        choice = (task.answer or {})["choice"]
        rows.append(
            (task.person_name, " / ".join(pair), dict(zip("AB", pair, strict=True)).get(choice, choice))
        )
    return rows


def in_order(desk: RoundDesk, round_id: str) -> list[AssignedTask]:
    """By rater and by their place in the file."""
    dealt = ratings.dealt(desk.database, round_id)
    return sorted(dealt, key=lambda task: (task.person_name, task.place))


def battle(model_a: str, model_b: str, winner: object, **more: object) -> dict[str, Any]:
    return BATTLE | {"model_a": model_a, "model_b": model_b, "winner": winner} | more


# -- a column of votes of each rater -------------------------------------------------------------------


def test_votes_of_several_people_become_a_closed_round(desk: RoundDesk) -> None:
    rows = [
        PAIR | {"annotator1": 1, "annotator2": 0, "annotator3": 2},
        PAIR | {"annotator1": 2, "annotator2": 2, "annotator3": None},
    ]
    round_id = imported(desk, rows, first="Model one")
    round = rounds.get(desk.database, round_id)
    assert (round.state, round.name, round.item_count) == ("closed", "votes", 2)
    assert [system.name for system in round.systems] == ["Model one", "response2"]
    assert round.details.notices == [
        "5 votes, 2 models, 3 raters, 2 prompts.",
        "Fewer than 10 ratings each have Model one, response2.",
        "Left out 1 times: annotator3 has no vote.",
    ]
    first = rounds.items(desk.database, round_id)[0]
    assert first.prompt == [{"role": "user", "content": "Add.\n\n1 and 1"}]
    assert first.answers == ["2", "<b>3</b>"]
    votes = {
        (task.person_name, task.item_id): (task.answer or {})["choice"]
        for task in ratings.dealt(desk.database, round_id)
    }
    assert votes == {
        **{("annotator1", 0): "A", ("annotator2", 0): "tie", ("annotator3", 0): "B"},
        **{("annotator1", 1): "B", ("annotator2", 1): "B"},
    }


def test_an_empty_answer_is_rated_too(desk: RoundDesk) -> None:
    round_id = imported(desk, [PAIR | {"label": 1}, PAIR | {"label": 1, "response2": ""}])
    assert [item.answers[1] for item in rounds.items(desk.database, round_id)] == ["<b>3</b>", ""]
    assert rounds.get(desk.database, round_id).details.empty == 1


def test_two_models_in_one_column_are_told_apart(desk: RoundDesk) -> None:
    rows = [
        PAIR | {"cmp_key": f"bloom-7b_{other}", "annotator1": 1, "annotator2": 2}
        for other in ("opt-7b", "llama")
    ]
    round = rounds.get(desk.database, imported(desk, rows))
    assert [system.name for system in round.systems] == ["bloom-7b", "opt-7b", "llama"]


def test_an_imported_round_is_not_opened(desk: RoundDesk) -> None:
    round_id = imported(desk, [PAIR | {"label": 1}, PAIR | {"label": 2}])
    with pytest.raises(Exception, match="elsewhere"):
        desk("open_round", round=round_id)


def test_a_file_without_votes_is_refused_with_what_to_do(desk: RoundDesk) -> None:
    with pytest.raises(DataError, match="No column has") as refused:
        imported(desk, [{"text": "nothing"}])
    assert "--column role=column" in refused.value.fix
    with pytest.raises(ConfigError, match="path"):
        desk("import_round", name="R")


# -- a vote a row --------------------------------------------------------------------------------------


def test_a_vote_a_row_keeps_models_and_raters(desk: RoundDesk) -> None:
    rows = [
        battle("gpt", "llama", "model_a", judge="Ada"),
        battle("falcon", "gpt", "model_b", judge="Bob", response_a="Who knows.", response_b="Because."),
        battle("gpt", "llama", "tie", judge="Bob"),
        battle("gpt", "falcon", "tie (bothbad)", judge="Ada", response_b="Who knows."),
    ]
    round_id = imported(desk, rows)
    assert verdicts(desk, round_id) == [
        ("Ada", "gpt / llama", "gpt"),
        ("Ada", "gpt / falcon", "both_bad"),
        ("Bob", "falcon / gpt", "gpt"),
        ("Bob", "gpt / llama", "tie"),
    ]
    (item,) = rounds.items(desk.database, round_id)  # one prompt, to which each model has one answer
    assert item.answers == ["Because.", "No idea.", "Who knows."]


def test_a_model_that_answered_twice_makes_two_items(desk: RoundDesk) -> None:
    rows = [
        battle("gpt", "llama", "a", judge="Ada", response_a=text) for text in ("Once.", "Twice.", "Once.")
    ]
    round = rounds.get(desk.database, imported(desk, rows))
    assert (round.item_count, round.details.notices[-1][:20]) == (2, "Left out 1 times: th")


def test_a_winner_may_be_a_models_name(desk: RoundDesk) -> None:
    rows = [battle("gpt", "llama", "llama", judge="Ada"), battle("llama", "gpt", "llama", judge="Bob")]
    assert [line[2] for line in verdicts(desk, imported(desk, rows))] == ["llama", "llama"]


def test_a_name_that_is_a_word_for_a_side_is_asked_about(desk: RoundDesk) -> None:
    """A model is called “b”: its name says the second side, and it stood first."""
    rows = [battle("b", "a", "b", judge="Ada"), battle("b", "a", "a", judge="Bob")]
    assert {unclear.value for unclear in looked_at(desk, rows).unclear} == {"a", "b"}
    with pytest.raises(DataError, match="not clear what these values of winner mean: 'b'"):
        imported(desk, rows)
    by_name = imported(desk, rows, values={"a": "model", "b": "model"})
    assert [line[2] for line in verdicts(desk, by_name)] == ["b", "a"]
    by_side = imported(desk, rows, values={"a": "first", "b": "second"}, name="Sides")
    assert [line[2] for line in verdicts(desk, by_side)] == ["a", "b"]


def test_columns_left_and_right_name_models_beside_their_ids(desk: RoundDesk) -> None:
    """As crowds are asked: ids of prompts and models, names of the models, no texts."""
    rows = [
        {"id": n, "prompt": 8 + n % 2, "model_x": 97, "model_y": 98, "worker": worker, "winner": winner}
        | {"left": "Airoboros", "right": "Weaver"}
        for n, (worker, winner) in enumerate([(58, "tie"), (83, "left"), (14, "right"), (58, "left")])
    ]
    round_id = imported(desk, rows)
    assert ("58", "Airoboros / Weaver", "tie") in verdicts(desk, round_id)
    items = rounds.items(desk.database, round_id)
    assert [item.prompt[0]["content"] for item in items] == ["Prompt 8", "Prompt 9"]
    assert items[0].answers == [None, None]


def test_three_columns_may_say_who_won(desk: RoundDesk) -> None:
    won = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]
    rows = [
        {"id": n, "model_a": "gpt", "model_b": "llama", "prompt": '["Why?"]', "response_a": '["Because."]'}
        | {"response_b": '["No."]', "winner_model_a": a, "winner_model_b": b, "winner_tie": tie}
        for n, (a, b, tie) in enumerate(won)
    ]
    round_id = imported(desk, rows)
    assert [line[2] for line in verdicts(desk, round_id)] == ["gpt", "llama", "tie"]
    assert rounds.items(desk.database, round_id)[0].answers == ["Because.", "No."]
    assert "Left out 1 times: no winner." in rounds.get(desk.database, round_id).details.notices


def test_soft_preferences_are_kept(desk: RoundDesk) -> None:
    rows = [
        {
            "instruction": f"Do {n}.",
            "output_1": "x",
            "generator_1": "gpt",
            "output_2": "y",
            "generator_2": "ein",
        }
        | {"annotator": "judge", "preference": preference}
        for n, preference in enumerate([1.0, 1.25, 1.5, 1.9, 2.0, None])
    ]
    round_id = imported(desk, rows)
    answers = [task.answer for task in sorted(ratings.dealt(desk.database, round_id), key=lambda t: t.place)]
    assert answers == [
        {"choice": "A"},
        {"choice": "A", "preference": pytest.approx(0.75)},
        {"choice": "tie"},
        {"choice": "B", "preference": pytest.approx(0.1)},
        {"choice": "B"},
    ]
    assert "2 votes are soft" in " ".join(rounds.get(desk.database, round_id).details.notices)


def test_a_preference_from_0_to_1_says_for_whom_by_its_mapping(desk: RoundDesk) -> None:
    rows = [battle("gpt", "llama", None, judge=f"J{n}", preference=n / 10) for n in range(1, 5)]
    rows = [{name: value for name, value in row.items() if name != "winner"} for row in rows]
    for role, better in (("preference_a", "llama"), ("preference_b", "gpt")):
        round_id = imported(desk, rows, columns={role: "preference"}, name=role)
        assert {line[2] for line in verdicts(desk, round_id)} == {better}


def test_conversations_are_judged_at_their_turn(desk: RoundDesk) -> None:
    def talk(*answers: str) -> list[dict[str, str]]:
        turns = zip(("First?", "Second?"), answers, strict=True)
        return [
            {"role": r, "content": t}
            for turn in turns
            for r, t in zip(("user", "assistant"), turn, strict=True)
        ]

    rows = [
        {
            "question_id": 1,
            "model_a": "gpt",
            "model_b": "llama",
            "winner": "model_a",
            "judge": "Ada",
            "turn": turn,
        }
        | {"conversation_a": talk("A1", "A2"), "conversation_b": talk("B1", "B2")}
        for turn in (1, 2)
    ]
    first, second = rounds.items(desk.database, imported(desk, rows))
    assert first.prompt == [{"role": "user", "content": "First?"}]
    assert first.answers == ["A1", "B1"]
    assert second.answers == [
        "A1\n\nUser: Second?\n\nAssistant: A2",
        "B1\n\nUser: Second?\n\nAssistant: B2",
    ]


def test_seconds_times_and_comments_come_along(desk: RoundDesk) -> None:
    row = battle("gpt", "llama", "a", judge="Ada", seconds=4.5, tstamp=1687000000.0, comment="Short.")
    (task,) = ratings.dealt(desk.database, imported(desk, [row]))
    assert (task.seconds, task.comment) == (4.5, "Short.")
    assert task.rated_at == datetime(2023, 6, 17, 11, 6, 40)


# -- what is left out, and asked -----------------------------------------------------------------------


def test_what_is_left_out_is_counted_with_its_reason(desk: RoundDesk) -> None:
    rows = [
        battle("gpt", "llama", "a", judge="Ada"),
        battle("gpt", "llama", "b", judge="Ada"),
        battle("llama", "gpt", "a", judge="Ada", response_a="No idea.", response_b="Because."),
        battle("gpt", "gpt", "a", judge="Ada", response_b="Because."),
        battle("", "llama", "a", judge="Ada"),
        battle("gpt", "llama", "a", judge=""),
        battle("gpt", "llama", "", judge="Bob"),
    ]
    seen = looked_at(desk, rows)
    assert (seen.ratings, seen.rows, seen.whole) == (2, 7, True)
    assert seen.left_out == {
        "the same rater rated the same item before: the first rating is used": 1,
        "both answers are of the same model": 1,
        "model_a is empty": 1,
        "judge is empty": 1,
        "winner has no vote": 1,
    }
    round_id = imported(desk, rows)
    assert {task.purpose for task in ratings.dealt(desk.database, round_id)} == {"first", "repeat"}


@pytest.mark.parametrize("column", ["person", "moderator_id", "shift"])
def test_a_column_that_may_matter_stops_the_import(desk: RoundDesk, column: str) -> None:
    rows = [
        battle("gpt", "llama", "ab"[n % 2], prompt=f"Why {n}?", **{column: "xyz"[n % 3]}) for n in range(24)
    ]
    (undecided,) = looked_at(desk, rows).undecided
    assert undecided.name == column
    with pytest.raises(DataError, match=f"that may matter: '{column}'") as refused:
        imported(desk, rows)
    assert f"--ignore {column}" in refused.value.fix
    assert len({line[0] for line in verdicts(desk, imported(desk, rows, ignore=[column]))}) == 1
    named = imported(desk, rows, columns={"rater": column}, name="Raters")
    assert {line[0] for line in verdicts(desk, named)} == {"x", "y", "z"}


def test_a_value_that_says_nothing_clear_stops_the_import(desk: RoundDesk) -> None:
    rows = [battle("gpt", "llama", winner, judge=f"J{n}") for n, winner in enumerate(["a", "b", "hm"])]
    with pytest.raises(DataError, match="'hm'") as refused:
        imported(desk, rows)
    assert "--value" in refused.value.fix
    round_id = imported(desk, rows, values={"hm": "leave_out"})
    assert len(verdicts(desk, round_id)) == 2
    assert "which is left out on purpose" in rounds.get(desk.database, round_id).details.notices[-1]


def test_a_mapping_that_can_not_be_names_what_is_wrong(desk: RoundDesk) -> None:
    rows = [battle("gpt", "llama", "a", judge="Ada")]
    for columns, message in (
        ({"rater": "nobody"}, "no column 'nobody'"),
        ({"rater": "model_a", "model_a": "model_a"}, "mapped to"),
        ({"score": "winner", "rater": "judge", "model_a": "model_a"}, "role"),
    ):
        with pytest.raises(ConfigError, match=message):
            looked_at(desk, rows, columns=columns)


def test_more_models_than_a_round_takes_are_refused(desk: RoundDesk) -> None:
    rows = [battle(f"m{n}", f"n{n}", "a", judge="Ada") for n in range(600)]
    with pytest.raises(DataError, match="more than 1,000 models"):
        imported(desk, rows)


def test_numbers_between_0_and_1_need_a_side(desk: RoundDesk) -> None:
    rows = [battle("gpt", "llama", None, judge=f"J{n}", preference=n / 10) for n in range(1, 5)]
    rows = [{name: value for name, value in row.items() if name != "winner"} for row in rows]
    assert "preference_a if 1 means the first" in (looked_at(desk, rows).problem or "")


def test_half_a_character_costs_its_row_alone(desk: RoundDesk) -> None:
    rows = [
        battle("gpt", "llama", "a", judge="Ada"),
        battle("gpt", "llama", "a", judge="Bob", prompt="\ud800?"),
        battle("gpt\ud800", "llama", "a", judge="Bob"),
        battle("gpt", "llama", "a", judge="Bob\ud800"),
    ]
    notices = rounds.get(desk.database, imported(desk, rows)).details.notices
    assert notices[-1] == "Left out 3 times: a text contains an unpaired surrogate."


def test_the_look_says_how_to_answer_on_the_command_line(desk: RoundDesk) -> None:
    rows = [battle("gpt", "llama", "ab"[n % 2], prompt=f"Why {n}?", shift=f"s {n % 3}") for n in range(24)]
    lines = format_rating_file(looked_at(desk, rows))
    assert lines[0] == "Read as: Votes on two answers"
    asked = next(line for line in lines if line.startswith("  asked: “shift” (s 0, s 1, s 2)"))
    assert asked.endswith("--column rater=shift or --column models=shift or --ignore shift")
    assert any(line.startswith("  meaning: a: the first is better") for line in lines)


# -- labels, scores and passes -------------------------------------------------------------------------


def test_labels_of_others_become_a_round_of_labels(desk: RoundDesk) -> None:
    labels = [("Good film", "Ada", "pos"), ("Good film", "Bob", "neg"), ("Bad film", "Ada", "neg")]
    rows = [{"text": text, "annotator": rater, "label": label} for text, rater, label in labels]
    round = rounds.get(desk.database, imported(desk, rows))
    assert (round.protocol, round.item_count, round.config["labels"]) == ("label", 2, ["neg", "pos"])


def test_scores_of_others_become_a_rubric(desk: RoundDesk) -> None:
    rows = [
        {
            "prompt": "Why?",
            "response": "So.",
            "model": model,
            "rater": rater,
            "helpfulness": score,
            "fluency": 5,
        }
        for model, rater, score in (("gpt", "Ada", 4), ("llama", "Ada", 1), ("gpt", "Bob", 5))
    ]
    round_id = imported(desk, rows)
    round = rounds.get(desk.database, round_id)
    assert round.protocol == "rubric"
    assert [(each["name"], each["anchors"]) for each in round.config["criteria"]] == [
        ("helpfulness", ["1", "2", "3", "4", "5"]),
        ("fluency", ["1", "2", "3", "4", "5"]),
    ]
    scores = [(task.answer or {})["scores"]["helpfulness"] for task in ratings.dealt(desk.database, round_id)]
    assert sorted(scores) == [1, 4, 5]


def test_scores_of_seven_points_have_their_figures(desk: RoundDesk) -> None:
    rows = [
        {"prompt": f"Why {n}?", "response": "So.", "model": "gpt", "rater": "Ada", "score": 1 + n % 7}
        for n in range(14)
    ]
    round_id = imported(desk, rows)
    round = rounds.get(desk.database, round_id)
    rated = build_round_ratings(round, ratings.rated(desk.database, round_id))
    assert rated.scores is not None
    assert compute_criterion_means(rated.scores)["gpt", "score"].value == pytest.approx(4)


def test_scores_in_words_take_their_numbers_and_too_many_points_are_refused(desk: RoundDesk) -> None:
    rows = [
        {"prompt": "Why?", "response": f"{n}", "model": "gpt", "score": word}
        for n, word in enumerate(["bad", "ok"])
    ]
    asked = {"form": "scores", "columns": {"score": "score"}}
    assert [unclear.value for unclear in looked_at(desk, rows, **asked).unclear] == ["bad", "ok"]
    round_id = imported(desk, rows, **asked, values={"bad": "1", "ok": "3"})
    assert rounds.get(desk.database, round_id).config["criteria"][0]["anchors"] == ["1", "2", "3"]
    many = [{"prompt": "Why?", "response": f"{n}", "model": "gpt", "score": n / 4} for n in range(12)]
    with pytest.raises(DataError, match="12 values") as refused:
        imported(desk, many, name="Many")
    assert "--value 0=0.25" in refused.value.fix


def test_passes_of_others_become_a_round_of_passes(desk: RoundDesk) -> None:
    rows = [
        {
            "prompt": "Why?",
            "answer": "So.",
            "model": "gpt",
            "rater": rater,
            "passed": passed,
            "reason": "Wrong",
        }
        for rater, passed in (("Ada", True), ("Bob", False))
    ]
    round_id = imported(desk, rows)
    assert rounds.get(desk.database, round_id).protocol == "pass_fail"
    answers = {task.person_name: task.answer for task in ratings.dealt(desk.database, round_id)}
    assert answers == {"Ada": {"passed": True, "reasons": []}, "Bob": {"passed": False, "reasons": ["Wrong"]}}


# -- what comes of it ----------------------------------------------------------------------------------


def test_only_votes_with_texts_make_training_rows(desk: RoundDesk) -> None:
    rows = [battle("gpt", "llama", "a", prompt=f"Why {n}?", judge="Ada") for n in range(4)]
    rows[0]["response_b"] = None
    rows[1]["response_b"] = "Yes.\n\nUser: And?\n\nAssistant: No."
    made = desk("rows_from_round", round=imported(desk, rows))
    assert made["rows"] == 2
    assert made["left_out"] == {
        "an answer's text is not in the file": 1,
        "an answer has several turns": 1,
    }
    ids = [{"prompt_id": row["prompt"]} | row for row in rows[2:]]
    for row in ids:
        row.pop("prompt"), row.pop("question_id")
    with pytest.raises(Exception, match="the prompt's text is not in the file"):
        desk("rows_from_round", round=imported(desk, ids, name="Ids"))


def test_strengths_of_imported_votes_are_newmans_of_the_file(desk: RoundDesk) -> None:
    """What another program makes of the very columns of the file, ties counted."""
    random = Random(4)
    names = ["gpt", "llama", "falcon", "mpt"]
    rows = []
    for n in range(240):
        first, second = random.sample(names, 2)
        better = random.random() * 4 + names.index(second) - names.index(first)
        winner = "model_a" if better > 2.5 else "model_b" if better < 1.5 else "tie"
        rows.append(battle(first, second, winner, prompt=f"Why {n}?", judge=f"J{n % 5}"))
    round_id = imported(desk, rows)
    round = rounds.get(desk.database, round_id)
    rated = build_round_ratings(round, ratings.rated(desk.database, round_id))
    assert rated.comparisons is not None
    ours = estimate_strengths(rated.comparisons, resamples=20)
    winners = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    theirs = evalica.newman(
        [row["model_a"] for row in rows],
        [row["model_b"] for row in rows],
        [winners[row["winner"]] for row in rows],
        tie_weight=1.0,
        tolerance=1e-12,
        limit=10_000,
    )
    logs = np.log(theirs.scores[list(ours.systems)].to_numpy())
    assert [at.value for at in ours.strengths] == pytest.approx(list(logs - logs.mean()), abs=1e-4)
