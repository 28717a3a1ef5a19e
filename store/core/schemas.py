"""Documents that every room knows: jobs and errors, people and what they did, the machine and its
processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

ConfigDocument = dict[str, Any]  # a config as it is stored, perhaps by an earlier version: `of_past` reads it
JsonObject = dict[str, Any]  # whose fields nobody here knows: of another program, a metric, a template
JobStatus = Literal[
    "queued", "preparing", "training", "evaluating", "finished", "failed", "cancelled", "lost"
]


class ErrorDocument(TypedDict):
    """What went wrong, as it crosses processes (`store.core.errors`)."""

    error: str  # name of the class, or of what happened: OutOfMemory, DiskFull, WorkerLost
    message: str  # one sentence
    fix: NotRequired[str]  # what to do about it; empty where nothing is known
    field: NotRequired[str]  # of the form or config that is at fault; empty for none
    change: NotRequired[JsonObject]  # what `fix` says, as fields of a config
    retry_after: NotRequired[int]  # seconds until it is worth another try
    traceback: NotRequired[str]  # or the last lines of the log, of a worker that was lost


@dataclass(kw_only=True)
class JobProgress:
    """How far a job is, as its row has it; null until it has said so."""

    progress_done: float | None
    progress_total: float | None  # 0 where nobody knows
    progress_unit: str | None  # rows, steps, bytes, …
    progress_message: str | None
    eta_seconds: float | None  # until the end; null where it can't be said yet


@dataclass(kw_only=True)
class Job(JobProgress):
    """A row of table `job`."""

    job_id: str
    kind: str  # of store.core.job_kinds
    lane: Literal["device", "beside", "light"]
    title: str
    status: JobStatus
    config: ConfigDocument  # what was asked for, as its kind's config model writes it
    after_jobs: list[str]  # must be finished before this one starts
    attempt: int  # 2 is the first resume
    device: str | None  # cpu or cuda:N; null while it waits
    pid: int | None
    process_started: float | None  # with pid it names one process for good
    event_offset: int  # bytes of events.jsonl that are in the store
    created_at: datetime  # naive UTC, as all times of the store
    created_by: str | None  # who asked for it; null for what the engine asked for itself
    started_at: datetime | None  # of the present attempt
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    error: ErrorDocument | None
    result: JsonObject | None  # as docs/results.md says of its kind; of a run the verdict too


@dataclass(kw_only=True)
class WaitingJob:
    """A queued job, as much of it as decides on its start."""

    job_id: str
    kind: str
    lane: Literal["device", "beside", "light"]
    title: str
    after_jobs: list[str]
    ready: bool  # all that it waits for is finished


@dataclass(kw_only=True)
class JobState:
    """What other jobs need to know of one that they wait for."""

    job_id: str
    title: str
    status: JobStatus
    error: ErrorDocument | None


class JobLog(TypedDict):
    """The answer of `GET /jobs/ID/log`: the end of the worker's output."""

    text: str
    bytes: int  # of the whole file
    shown_bytes: int


Role = Literal["viewer", "rater", "member", "admin"]
Right = Literal["look", "rate", "work", "govern", "own"]


@dataclass(kw_only=True)
class Person:
    """A person, as requests and what they changed name them."""

    person_id: str
    name: str
    role: Role
    session_id: str | None = None  # by which the request came; missing for a token


@dataclass(kw_only=True)
class TeamMember:
    """One who has an account, as admins see them."""

    person_id: str
    name: str
    email: str
    role: Role
    active: bool  # false: may not sign in, and what they did keeps their name
    has_password: bool  # false: signs in by the provider alone
    created_at: float
    seen_at: float | None  # of their sessions and tokens; null: never


@dataclass(kw_only=True)
class Invitation:
    """A link that lets somebody make an account, once, as admins see it; a new password for one that is there
    where `person_id` is set."""

    invitation_id: str
    role: Role
    email: str | None  # null: whoever has the link chooses
    person_id: str | None
    name: str | None  # of that person
    made_by: str  # name
    created_at: float
    expires_at: float


class CreatedInvitation(TypedDict):
    """A new invitation: the only time that its secret can be read."""

    invitation_id: str
    secret: str
    expires_at: float


class InvitationOffer(TypedDict):
    """What an invitation offers to whoever has its secret."""

    role: Role
    email: str | None
    name: str | None  # of the account that gets a new password; null: a new account
    expires_at: float


@dataclass(kw_only=True)
class ActiveSession:
    """A browser in which somebody is signed in."""

    session_id: str
    person_id: str
    created_at: float
    seen_at: float
    address: str
    agent: str  # what the browser calls itself
    current: bool  # the one that asks


@dataclass(kw_only=True)
class Team:
    """Everybody, the invitations that are open, and where people are signed in."""

    members: list[TeamMember]
    invitations: list[Invitation]
    sessions: list[ActiveSession]


@dataclass(kw_only=True)
class ApiToken:
    """What lets a script act as a person."""

    token_id: str
    name: str
    created_at: float
    used_at: float | None


class CreatedApiToken(TypedDict):
    """A new token: the only time that it can be read."""

    token_id: str
    token: str


@dataclass(kw_only=True)
class OwnAccount:
    """What people see of themselves."""

    person: Person
    team: bool  # sign-in is on
    email: str | None  # null: the owner of the home folder, who has no account
    has_password: bool
    sessions: list[ActiveSession]
    tokens: list[ApiToken]


class CreatedSession(TypedDict):
    """A new session: its secret goes into the browser's cookie."""

    session: str
    person: Person
    browser_cookie: str  # for the cookie by which this browser is known at the next sign-in
    ended_tokens: int  # API tokens that a new password by link has ended


class RevokedAccess(TypedDict):
    """What of a person's ended by a change of their account."""

    ended_sessions: int
    ended_tokens: int


class LoginState(TypedDict):
    """What the door of the screens asks for."""

    team: bool  # sign-in is on


class CreatedPerson(TypedDict):
    """A person's id, as a change answers it."""

    person_id: str


CommentSubjectKind = Literal["run", "row", "evaluation", "comparison"]
SubjectKind = Literal[
    "run",
    "dataset",
    "row",
    "evaluation",
    "comparison",
    "round",
    "recipe",
    "slice",
    "setting",
    "job",
    "person",
    "conversation",
    "model",
    "endpoint",
]


@dataclass(kw_only=True)
class PersonName:
    """A person by the newest name."""

    person_id: str
    name: str


@dataclass(kw_only=True)
class NewActivity:
    """What a command did, as it is recorded."""

    done_at: datetime  # naive UTC
    person_id: str
    person_name: str  # as it was, as is the subject's
    command: str  # of store.people.activity_text
    subject_kind: SubjectKind
    subject_id: str
    subject_name: str
    detail: str  # a few words, or none
    comment_id: str | None  # of a comment on the subject; null for all else


@dataclass(kw_only=True)
class Activity(NewActivity):
    """A row of the activity as it is listed."""

    activity_id: int
    present: bool  # the subject is still there
    comment: str | None  # the comment's text as it is now; null where there is none, or it was deleted


@dataclass(kw_only=True)
class Comment:
    """A comment that was not deleted."""

    comment_id: str
    subject_kind: CommentSubjectKind
    subject_id: str
    person_id: str
    person_name: str  # as it was
    text: str  # plain, with line breaks
    mentions: list[PersonName]  # whom it names by @, as they were resolved when it was written
    written_at: datetime  # naive UTC
    edited_at: datetime | None


class CreatedComment(TypedDict):
    """The answer of `comment`."""

    comment_id: str


@dataclass(kw_only=True)
class Gpu:
    """One GPU; a figure that the driver does not give is null."""

    index: int
    name: str | None
    utilization_percent: float | None
    memory_used_gib: float | None
    memory_total_gib: float | None
    temperature_c: float | None


@dataclass(kw_only=True)
class MachineReading:
    """The answer of `GET /machine`."""

    cpu_percent: float
    cores: int
    memory_used_gib: float
    memory_total_gib: float
    disk_free_gib: float
    gpus: list[Gpu]
    devices: list[str]  # that a run can have: cuda:N of each GPU, or cpu
    bf16: bool  # bfloat16 is fast here


class Health(TypedDict):
    """The answer of `GET /health`, the one that needs no token."""

    name: str  # tunebench
    version: str
    pid: int
    home: str


@dataclass(kw_only=True)
class HourPrice:
    """What an hour of the machine costs."""

    per_hour: float | None  # null: nobody said
    currency: str


class UploadResult(TypedDict):
    """The answer of `PUT /uploads/NAME`."""

    upload: str  # the name to import it by


@dataclass(kw_only=True)
class LostCommits:
    """Commits that were made, by the journal beside the store, and are not in it. Times are seconds since the
    epoch."""

    found_at: float
    commits: int
    understood: int  # of how many it is known what they changed; what was checkpointed before is not
    first_at: float | None  # of those
    last_at: float | None
    rows: dict[str, int]  # table -> rows that they added, changed or removed
