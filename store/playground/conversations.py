"""Playground conversations: turns, answers, and rows saved from them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from store.core.errors import NotFoundError, StateError
from store.core.row_schemas import Message
from store.core.schemas import ConfigDocument
from store.db.named_query import named_query
from store.db.records import read_records, to_json
from store.playground.config import number_duplicates
from store.playground.schemas import (
    Conversation,
    ConversationSummary,
    KeptRow,
    RatableTurns,
    SettingsDocument,
    Turn,
    TurnAnswer,
    TurnPlace,
)

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


class Speaker(NamedTuple):
    """A model in a conversation: the model as stored, its sampling, and its place among the models.

    The same model may occur twice, so sampling and place are needed to identify its own answers.
    """

    model: ConfigDocument
    sampling: ConfigDocument | None
    place: int

    def compare(self, other: Speaker) -> int:
        """Return how well another speaker matches this one; 0 if it is another model."""
        if self.model != other.model:
            return 0
        return 1 + 2 * (self.sampling == other.sampling) + (self.place == other.place)


ANSWER_JSON = ("model", "tokens", "figures", "error")
TITLE_LENGTH = 80

# -- reads ------------------------------------------------------------------------------------------


@named_query
def conversations(db: Queryable, limit: int = 50) -> list[ConversationSummary]:
    """Return the most recently used conversations."""
    sql = (
        "SELECT c.conversation_id, c.title, c.made_by, c.created_at, c.changed_at, count(t.turn_id) AS turns"
        " FROM conversation c LEFT JOIN turn t USING (conversation_id) GROUP BY ALL"
        " ORDER BY c.changed_at DESC, c.conversation_id DESC LIMIT ?"
    )
    return read_records(db.query(sql, [limit]), ConversationSummary)


@named_query
def count(db: Queryable) -> int:
    """Return the number of conversations."""
    return int(db.query("SELECT count(*) AS n FROM conversation").column("n")[0].as_py())


def list_all_settings(db: Queryable) -> list[SettingsDocument]:
    """Return the current settings of every conversation."""
    rows = read_records(db.query("SELECT * FROM conversation"), Conversation, ["settings"])
    return [row.settings for row in rows]


@named_query
def get_conversation(db: Queryable, conversation_id: str) -> Conversation:
    """Return a conversation. Raises NotFoundError."""
    sql = "SELECT * FROM conversation WHERE conversation_id = ?"
    rows = read_records(db.query(sql, [conversation_id]), Conversation, ["settings"])
    if not rows:
        raise NotFoundError(
            f"There is no conversation {conversation_id}.",
            fix="It may have been deleted; begin another one.",
            field="conversation",
        )
    return rows[0]


@named_query
def tree(db: Queryable, conversation_id: str) -> list[TurnPlace]:
    """Return all turns, oldest first."""
    sql = (
        "SELECT turn_id, parent_id, prompt, said_at FROM turn WHERE conversation_id = ?"
        " ORDER BY said_at, turn_id"
    )
    return read_records(db.query(sql, [conversation_id]), TurnPlace)


@named_query
def path(db: Queryable, conversation_id: str, leaf: str) -> list[Turn]:
    """Return the turns from the root to `leaf` with their answers; empty if `leaf` is empty.

    Raises NotFoundError if the conversation has no such turn.
    """
    if not leaf:
        return []
    sql = (
        "WITH RECURSIVE way AS ("
        " SELECT *, 0 AS back FROM turn WHERE turn_id = ? AND conversation_id = ?"
        " UNION ALL SELECT t.*, w.back + 1 FROM turn t JOIN way w ON t.turn_id = w.parent_id"
        ") SELECT * EXCLUDE (back) FROM way ORDER BY back DESC"
    )
    turns = read_records(db.query(sql, [leaf, conversation_id]), Turn, ["settings"])
    if not turns:
        raise NotFoundError(
            f"The conversation has no turn {leaf}.", fix="Go on from another turn.", field="parent"
        )
    for turn in turns:
        turn.answers = list_answers(db, turn.turn_id)
    return turns


def list_answers(db: Queryable, turn_id: str) -> list[TurnAnswer]:
    """Return the answers to a turn, in the order of the models."""
    sql = (
        "SELECT turn_id, place, label, model, text, tokens, reason, figures, error FROM turn_answer"
        " WHERE turn_id = ? ORDER BY place"
    )
    return read_records(db.query(sql, [turn_id]), TurnAnswer, ANSWER_JSON)


@named_query
def turn_of(db: Queryable, turn_id: str) -> Turn:
    """Return a turn with its answers. Raises NotFoundError."""
    turns = read_records(db.query("SELECT * FROM turn WHERE turn_id = ?", [turn_id]), Turn, ["settings"])
    if not turns:
        raise NotFoundError(f"There is no turn {turn_id}.", fix="It may have been deleted.", field="turn")
    turns[0].answers = list_answers(db, turn_id)
    return turns[0]


@named_query
def answered_by(db: Queryable, names: list[str], made_by: str) -> list[ConversationSummary]:
    """Return a person's conversations with answers by all models with these labels, newest first."""
    sql = (
        "SELECT c.conversation_id, c.title, c.made_by, c.created_at, c.changed_at,"
        " count(DISTINCT t.turn_id) AS turns"
        " FROM conversation c JOIN turn t USING (conversation_id) JOIN turn_answer a USING (turn_id)"
        " WHERE c.made_by = ? GROUP BY ALL HAVING list_has_all(list(a.label), ?)"
        " ORDER BY c.changed_at DESC, c.conversation_id DESC"
    )
    return read_records(db.query(sql, [made_by, names]), ConversationSummary)


@named_query
def answers_to_rate(
    db: Queryable, conversation_id: str, models: dict[str, ConfigDocument] | None = None
) -> RatableTurns:
    """Return turns of a conversation, from all branches, as lines for a rating round.

    These are turns that all models answered completely and for which all were sent the same messages, so
    after a first turn, only if the earlier answers are equal. models: label -> model; by default the
    models of the turn with the most answers.
    """
    turns = _read_turns(db, conversation_id)
    if models is None:
        models = max((_map_answers(turn)[1] for turn in reversed(turns.values())), key=len, default={})
    ratable = RatableTurns(
        lines=[],
        models=models,
        failed=0,
        asked_otherwise=0,
        other_models=0,
    )
    for turn in turns.values():
        answers, models_by_label = _map_answers(turn)
        if len(models) < 2 or any(models_by_label.get(name) != model for name, model in models.items()):
            ratable.other_models += 1
            continue
        model_answers = [answers[name] for name in models]
        previous = _list_previous_turns(turns, turn)
        histories = [
            build_messages(previous, get_speaker(turn, answer), turn.settings["system"])[0]
            for answer in model_answers
        ]
        if any(answer.reason in ("failed", "stopped") for answer in model_answers):
            ratable.failed += 1
        elif any(messages != histories[0] for messages in histories):
            ratable.asked_otherwise += 1
        else:
            prompt: Message = {"role": "user", "content": turn.prompt}
            texts = {name: answers[name].text for name in models}
            ratable.lines.append({"messages": [*histories[0], prompt], "answers": texts})
    return ratable


def _read_turns(db: Queryable, conversation_id: str) -> dict[str, Turn]:
    """Return all turns by id, oldest first, with answers.

    The answers' tokens are omitted, because there may be many thousands.
    """
    sql = "SELECT * FROM turn WHERE conversation_id = ? ORDER BY said_at, turn_id"
    turns = {row.turn_id: row for row in read_records(db.query(sql, [conversation_id]), Turn, ["settings"])}
    sql = (
        "SELECT turn_id, place, label, model, text, '[]' AS tokens, reason, figures, error FROM turn_answer"
        " WHERE turn_id IN (SELECT turn_id FROM turn WHERE conversation_id = ?) ORDER BY place"
    )
    for answer in read_records(db.query(sql, [conversation_id]), TurnAnswer, ANSWER_JSON):
        turns[answer.turn_id].answers.append(answer)
    return turns


def _map_answers(turn: Turn) -> tuple[dict[str, TurnAnswer], dict[str, ConfigDocument]]:
    """Return the answers and the models of a turn by label."""
    names = number_duplicates([answer.label for answer in turn.answers])
    answers = dict(zip(names, turn.answers, strict=True))
    return answers, {name: answer.model for name, answer in answers.items()}


def _list_previous_turns(turns: dict[str, Turn], turn: Turn) -> list[Turn]:
    """Return the turns before this one, from the root."""
    previous: list[Turn] = []
    while turn.parent_id:
        turn = turns[turn.parent_id]
        previous.insert(0, turn)
    return previous


def get_speaker(turn: Turn, answer: TurnAnswer) -> Speaker:
    """Return the speaker of an answer to this turn."""
    models = turn.settings["models"]
    place = answer.place
    return Speaker(answer.model, models[place].get("sampling") if place < len(models) else None, place)


def build_messages(turns: list[Turn], model: Speaker, system: str) -> tuple[list[Message], int]:
    """Return the messages of these turns for `model`, and how many turns are left out as unanswered.

    Each turn has its prompt and the model's own answer or, if it has none, the first model's.
    """
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    left_out = 0
    for turn in turns:
        usable = [answer for answer in turn.answers if answer.reason != "failed"]
        if not usable:
            left_out += 1
            continue
        best = max(usable, key=lambda answer, turn=turn: model.compare(get_speaker(turn, answer)))  # type: ignore[misc]
        messages.append({"role": "user", "content": turn.prompt})
        messages.append({"role": "assistant", "content": best.text})
    return messages, left_out


@named_query
def kept_rows(db: Queryable, conversation_id: str | None = None) -> list[KeptRow]:
    """Return saved rows, of one conversation or of all, newest first.

    Rows whose import failed count as unused again.
    """
    where = "WHERE k.conversation_id = ?" if conversation_id else ""
    sql = (
        "SELECT k.kept_id, k.conversation_id, k.turn_id, k.kind, k.messages, k.corrected, k.kept_by,"
        " k.kept_at,"
        " CASE WHEN j.job_id IS NOT NULL THEN k.dataset_name END AS dataset_name,"
        " CASE WHEN j.job_id IS NOT NULL THEN k.job_id END AS job_id"
        " FROM kept_row k LEFT JOIN job j"
        " ON j.job_id = k.job_id AND j.status NOT IN ('failed', 'cancelled', 'lost')"
        f" {where} ORDER BY k.kept_at DESC, k.kept_id DESC"
    )
    params = [conversation_id] if conversation_id else []
    return read_records(db.query(sql, params), KeptRow, ["messages"])


# -- writes -----------------------------------------------------------------------------------------


def create_conversation(
    tx: Transaction, conversation_id: str, title: str, settings: SettingsDocument, by: str, at: datetime
) -> None:
    """Create an empty conversation."""
    tx.execute(
        "INSERT INTO conversation VALUES (?, ?, ?, ?, ?, ?)",
        [conversation_id, title, to_json(settings), by, at, at],
    )


def update_conversation(
    tx: Transaction,
    conversation_id: str,
    *,
    title: str | None = None,
    settings: SettingsDocument | None = None,
) -> None:
    """Change title or settings; existing turns keep their settings. Raises NotFoundError."""
    get_conversation(tx, conversation_id)
    if title is not None:
        tx.execute("UPDATE conversation SET title = ? WHERE conversation_id = ?", [title, conversation_id])
    if settings is not None:
        tx.execute(
            "UPDATE conversation SET settings = ? WHERE conversation_id = ?",
            [to_json(settings), conversation_id],
        )


def delete(tx: Transaction, conversation_id: str) -> None:
    """Delete a conversation with its turns; rows saved from it are kept. Raises NotFoundError."""
    get_conversation(tx, conversation_id)
    tx.execute(
        "DELETE FROM turn_answer WHERE turn_id IN (SELECT turn_id FROM turn WHERE conversation_id = ?)",
        [conversation_id],
    )
    tx.execute("DELETE FROM turn WHERE conversation_id = ?", [conversation_id])
    tx.execute("DELETE FROM conversation WHERE conversation_id = ?", [conversation_id])


def add_turn(
    tx: Transaction,
    turn_id: str,
    conversation: Conversation,
    parent_and_prompt: tuple[str, str],
    by: str,
    at: datetime,
) -> None:
    """Add a turn. parent_and_prompt: (id of the previous turn or "", prompt).

    The first prompt becomes the title of a conversation without one.
    """
    parent, prompt = parent_and_prompt
    conversation_id = conversation.conversation_id
    if parent:
        path(tx, conversation_id, parent)  # raises NotFoundError
    tx.execute(
        "INSERT INTO turn VALUES (?, ?, ?, ?, ?, ?, ?)",
        [turn_id, conversation_id, parent or None, prompt, to_json(conversation.settings), by, at],
    )
    title = conversation.title or " ".join(prompt.split())[:TITLE_LENGTH]
    tx.execute(
        "UPDATE conversation SET changed_at = ?, title = ? WHERE conversation_id = ?",
        [at, title, conversation_id],
    )


def save_answer(tx: Transaction, turn_answer: TurnAnswer, at: datetime) -> None:
    """Store an answer, unless its conversation has been deleted in the meantime."""
    if not tx.query("SELECT 1 FROM turn WHERE turn_id = ?", [turn_answer.turn_id]).num_rows:
        return
    tx.execute(
        "INSERT OR REPLACE INTO turn_answer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            turn_answer.turn_id,
            turn_answer.place,
            turn_answer.label,
            to_json(turn_answer.model),
            turn_answer.text,
            to_json(turn_answer.tokens),
            turn_answer.reason,
            to_json(turn_answer.figures) if turn_answer.figures else None,
            to_json(turn_answer.error) if turn_answer.error else None,
            at,
        ],
    )


def save_row(tx: Transaction, row: KeptRow) -> None:
    """Save a row until it is added to a data set."""
    tx.execute(
        "INSERT INTO kept_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            row.kept_id,
            row.conversation_id,
            row.turn_id,
            row.kind,
            to_json(row.messages),
            row.corrected,
            row.kept_by,
            row.kept_at,
            row.dataset_name,
            row.job_id,
        ],
    )


def mark_rows_used(tx: Transaction, kept_ids: list[str], dataset_name: str, job_id: str) -> None:
    """Record the data set that these rows go into, and the job that creates it."""
    for kept_id in kept_ids:
        tx.execute(
            "UPDATE kept_row SET dataset_name = ?, job_id = ? WHERE kept_id = ?",
            [dataset_name, job_id, kept_id],
        )


def delete_row(tx: Transaction, kept_id: str) -> None:
    """Delete a row that is in no data set. Raises NotFoundError, StateError."""
    rows = [row for row in kept_rows(tx) if row.kept_id == kept_id]
    if not rows:
        raise NotFoundError(f"There is no kept row {kept_id}.", field="kept")
    if rows[0].dataset_name:
        raise StateError(
            f"The row is in the data set “{rows[0].dataset_name}” already.",
            fix="Make a version of that without the row.",
        )
    tx.execute("DELETE FROM kept_row WHERE kept_id = ?", [kept_id])
