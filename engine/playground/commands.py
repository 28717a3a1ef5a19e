"""Commands of the playground: conversations, and the rows that people save from them.

Saved rows enter a data set like all rows, by importing a file. To extend a data set, a cleaning mixes that
import in, so that there is a new version with its lineage and the old one is unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from engine.playground import text
from engine.server.command import CREATED, PERSONAL, ActivitySubject, Command
from engine.server.job_submission import JobSubmission
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.job_folder import write_atomically
from store.core.schemas import Person
from store.data import datasets
from store.data.config import CleanConfig, ImportConfig
from store.data.schemas import Dataset
from store.db.database import Database, Queryable, Transaction
from store.http.schemas import EmptyAnswer, JobQueued, SavedRow, StartedConversation
from store.jobs import job_queue
from store.playground import conversations
from store.playground.config import (
    ChatSettings,
    ConversationEdit,
    ConversationReference,
    KeptAnswer,
    KeptRowReference,
    KeptRowsTarget,
    NewConversation,
)
from store.playground.schemas import KeptRow, SettingsDocument

PARTS = {"test": "test", "training": "train"}  # kind of a saved row -> its part of the split


class PlaygroundCommands:
    """Commands over one store; `launching` queues jobs and knows which names are taken."""

    def __init__(self, database: Database, launching: JobSubmission, clock: Callable[[], float]) -> None:
        self.database, self.launching, self.clock = database, launching, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "begin_conversation": Command(
                NewConversation, self.create_conversation, PERSONAL, by_person=True
            ),
            "edit_conversation": Command(ConversationEdit, self.update_conversation, PERSONAL),
            "delete_conversation": Command(
                ConversationReference, self.delete_conversation, _find_conversation_subject
            ),
            "keep_answer": Command(KeptAnswer, self.save_answer, PERSONAL, by_person=True),
            "forget_kept_row": Command(KeptRowReference, self.delete_row, PERSONAL),
            "use_kept_rows": Command(KeptRowsTarget, self.import_rows, CREATED, makes_work=True),
        }

    def create_conversation(self, body: NewConversation, person: Person) -> StartedConversation:
        """Create a conversation without turns; turns are sent through the stream."""
        at = self.clock()
        conversation_id = job_queue.create_id("talk", at)
        with self.database.transaction() as tx:
            conversations.create_conversation(
                tx, conversation_id, body.title, _dump_settings(body), person.name, job_queue.to_utc(at)
            )
        return {"conversation_id": conversation_id}

    def update_conversation(self, body: ConversationEdit) -> EmptyAnswer:
        """Change the title, or the models and settings of later turns."""
        settings = _dump_settings(body.settings) if body.settings else None
        with self.database.transaction() as tx:
            conversations.update_conversation(tx, body.conversation, title=body.title, settings=settings)
        return {}

    def delete_conversation(self, body: ConversationReference) -> EmptyAnswer:
        """Delete a conversation; rows saved from it are kept."""
        with self.database.transaction() as tx:
            conversations.delete(tx, body.conversation)
        return {}

    def save_answer(self, body: KeptAnswer, person: Person) -> SavedRow:
        """Save a turn, with all earlier turns, and the right answer to it."""
        at = self.clock()
        kept_id = job_queue.create_id("kept", at)
        with self.database.transaction() as tx:
            turn = conversations.turn_of(tx, body.turn)
            answers = [answer for answer in turn.answers if answer.place == body.place]
            if not answers:
                raise NotFoundError(
                    f"No model answered at place {body.place}.", fix="Choose another answer.", field="place"
                )
            turns = conversations.path(tx, turn.conversation_id, turn.parent_id or "")
            system = turn.settings["system"]
            history, _ = conversations.build_messages(
                turns, conversations.get_speaker(turn, answers[0]), system
            )
            row = KeptRow(
                kept_id=kept_id,
                conversation_id=turn.conversation_id,
                turn_id=turn.turn_id,
                kind=body.kind,
                messages=[
                    *history,
                    {"role": "user", "content": turn.prompt},
                    {"role": "assistant", "content": body.answer},
                ],
                corrected=body.answer != answers[0].text,
                kept_by=person.name,
                kept_at=job_queue.to_utc(at),
                dataset_name=None,
                job_id=None,
            )
            conversations.save_row(tx, row)
        return {"kept_id": kept_id}

    def delete_row(self, body: KeptRowReference) -> EmptyAnswer:
        """Delete a saved row that is not in a data set yet."""
        with self.database.transaction() as tx:
            conversations.delete_row(tx, body.kept)
        return {}

    def import_rows(self, body: KeptRowsTarget) -> JobQueued:
        """Queue a data set of the unused saved rows of this kind, or the version that they extend."""
        with self.database.transaction() as tx:
            rows = [
                row
                for row in conversations.kept_rows(tx)
                if row.kind == body.kind and row.dataset_name is None
            ]
            if not rows:
                raise StateError(
                    f"No {body.kind} row waits for a data set.", fix="Save an answer in the playground first."
                )
            parent = datasets.get_dataset(tx, body.dataset) if body.dataset else None
            _check_extends(parent, body)
            name = body.name or self.launching.next_name(tx, parent.name if parent else "")
            self.launching.check_name(tx, name)
            own_name = text.name_saved_rows(name) if parent else name
            job_id = self._queue_import(tx, own_name, body.kind, rows[::-1])
            if parent:
                job_id = self._queue_version(tx, parent, name, (job_id, own_name, len(rows)))
            conversations.mark_rows_used(tx, [row.kept_id for row in rows], name, job_id)
        return {"job_id": job_id}

    def _queue_import(self, tx: Transaction, name: str, kind: str, rows: list[KeptRow]) -> str:
        lines = [
            {
                "messages": row.messages,
                "part": PARTS[kind],
                "conversation": row.conversation_id,
                "turn": row.turn_id,
                "corrected": row.corrected,
                "kept_by": row.kept_by,
            }
            for row in rows
        ]
        upload = f"{job_queue.create_id('kept', self.clock())}.jsonl"
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with write_atomically(self.launching.home.uploads / upload) as temporary:
            temporary.write_text(content, encoding="utf-8")
        document = {"source": {"upload": upload}, "name": name, "format": "messages", "split_by": "given"}
        document |= {"columns": {"messages": "messages"}, "part_column": "part", "ignore": ["corrected"]}
        config = ImportConfig.parse(document)
        return self.launching.queue_import(tx, config)

    def _queue_version(self, tx: Transaction, parent: Dataset, name: str, rows: tuple[str, str, int]) -> str:
        """Queue the version that adds `rows`: (id of their import job, name of their data set, count)."""
        import_job, own_name, count = rows
        share = count / (parent.row_count + count)
        steps = [{"step": "mix", "dataset": own_name, "share": share}]
        document = {"dataset": parent.dataset_id, "name": name, "recipe": {"steps": steps}}
        config = CleanConfig.parse(document).model_dump(exclude_none=True)
        job_id = job_queue.create_id("job", self.clock())
        job_queue.insert(
            tx,
            job_queue.NewJob(
                job_id=job_id,
                kind="clean",
                title=text.title_extension(count, parent.name),
                config=config,
                at=self.clock(),
                after_jobs=[import_job],
            ),
        )
        return job_id


def _find_conversation_subject(db: Queryable, body: ConversationReference) -> ActivitySubject:
    conversation = conversations.get_conversation(db, body.conversation)
    return ActivitySubject("conversation", conversation.conversation_id, conversation.title)


def _check_extends(parent: Dataset | None, body: KeptRowsTarget) -> None:
    """Raise ConfigError if the rows can't be added to the data set to extend."""
    if parent is None:
        return
    if body.kind == "test":
        raise ConfigError(
            "Test cases can't be added to a data set that is split again: they might be trained on.",
            fix="Make a data set of them alone, and evaluate models on it.",
            field="dataset",
        )
    if parent.kind != "chat":
        raise ConfigError(
            f"{parent.name} has rows of the kind {parent.kind}, but saved rows are conversations.",
            fix="Select a data set of conversations, or create one from the saved rows alone.",
            field="dataset",
        )


def _dump_settings(settings: ChatSettings) -> SettingsDocument:
    fields = set(ChatSettings.model_fields)
    document: SettingsDocument = settings.model_dump(include=fields, exclude_none=True)  # type: ignore[assignment]
    return document
