"""Documents shared by all rooms: jobs and errors, people and their activity, machine and processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

ConfigDocument = dict[str, Any]  # stored config, possibly of an earlier version: read with `of_past`
JsonObject = dict[str, Any]  # with fields unknown here: of another program, a metric, a template
JobStatus = Literal[
    "queued", "preparing", "training", "evaluating", "finished", "failed", "cancelled", "lost"
]


class ErrorDocument(TypedDict):
    """An error, as it crosses processes (`store.core.errors`)."""

    error: str  # name of the class, or of the event: OutOfMemory, DiskFull, WorkerLost
    message: str  # one sentence
    fix: NotRequired[str]  # what to do about it; empty if unknown
    field: NotRequired[str]  # field of the form or config at fault; empty for none
    change: NotRequired[JsonObject]  # `fix` as fields of a config
    retry_after: NotRequired[int]  # seconds until a retry makes sense
    traceback: NotRequired[str]  # or, for a lost worker, the last lines of its log


@dataclass(kw_only=True)
class JobProgress:
    """Progress of a job as stored in its row; null until reported."""

    progress_done: float | None
    progress_total: float | None  # 0 if unknown
    progress_unit: str | None  # rows, steps, bytes, …
    progress_message: str | None
    eta_seconds: float | None  # until the end; null if not known yet


@dataclass(kw_only=True)
class Job(JobProgress):
    """A row of table `job`."""

    job_id: str
    kind: str  # of store.core.job_kinds
    lane: Literal["device", "beside", "light"]
    title: str
    status: JobStatus
    config: ConfigDocument  # the request, as written by the config model of its kind
    after_jobs: list[str]  # must finish before this one starts
    attempt: int  # 2 is the first resume
    device: str | None  # cpu or cuda:N; null while it waits
    pid: int | None
    process_started: float | None  # identifies the process permanently, together with pid
    event_offset: int  # bytes of events.jsonl that have been stored
    created_at: datetime  # naive UTC, as all times in the store
    created_by: str | None  # the requester; null for the engine itself
    started_at: datetime | None  # of the current attempt
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    error: ErrorDocument | None
    result: JsonObject | None  # as documented in docs/results.md for its kind; for a run with the verdict


@dataclass(kw_only=True)
class WaitingJob:
    """A queued job, with the fields that decide when it starts."""

    job_id: str
    kind: str
    lane: Literal["device", "beside", "light"]
    title: str
    after_jobs: list[str]
    ready: bool  # all jobs that it waits for are finished


@dataclass(kw_only=True)
class JobState:
    """The state of a job that other jobs wait for."""

    job_id: str
    title: str
    status: JobStatus
    error: ErrorDocument | None


class JobLog(TypedDict):
    """Response of `GET /jobs/ID/log`: the end of the worker's output."""

    text: str
    bytes: int  # of the whole file
    shown_bytes: int


Role = Literal["viewer", "rater", "member", "admin"]
Right = Literal["look", "rate", "work", "govern", "own"]


@dataclass(kw_only=True)
class Person:
    """A person, as identified in requests and their changes."""

    person_id: str
    name: str
    role: Role
    session_id: str | None = None  # session of the request; null for a token


@dataclass(kw_only=True)
class TeamMember:
    """A person with an account, as visible to admins."""

    person_id: str
    name: str
    email: str
    role: Role
    active: bool  # false: can't sign in; their past work keeps their name
    has_password: bool  # false: signs in through the provider only
    created_at: float
    seen_at: float | None  # last use of their sessions and tokens; null: never


@dataclass(kw_only=True)
class Invitation:
    """A single-use link to create an account, as visible to admins; if `person_id` is set, a link to set a
    new password for that account.
    """

    invitation_id: str
    role: Role
    email: str | None  # null: chosen by the holder of the link
    person_id: str | None
    name: str | None  # of that person
    made_by: str  # name of the inviter
    created_at: float
    expires_at: float


class CreatedInvitation(TypedDict):
    """A new invitation. Its secret can only be read here."""

    invitation_id: str
    secret: str
    expires_at: float


class InvitationOffer(TypedDict):
    """What an invitation offers to the holder of its secret."""

    role: Role
    email: str | None
    name: str | None  # of the account for a new password; null: a new account
    expires_at: float


@dataclass(kw_only=True)
class ActiveSession:
    """A browser in which a person is signed in."""

    session_id: str
    person_id: str
    created_at: float
    seen_at: float
    address: str
    agent: str  # User-Agent of the browser
    current: bool  # the session of the request


@dataclass(kw_only=True)
class Team:
    """All members, open invitations and active sessions."""

    members: list[TeamMember]
    invitations: list[Invitation]
    sessions: list[ActiveSession]


@dataclass(kw_only=True)
class ApiToken:
    """A token that lets a script act as a person."""

    token_id: str
    name: str
    created_at: float
    used_at: float | None


class CreatedApiToken(TypedDict):
    """A new token. It can only be read here."""

    token_id: str
    token: str


@dataclass(kw_only=True)
class OwnAccount:
    """A person's own account."""

    person: Person
    team: bool  # sign-in is on
    email: str | None  # null: the owner of the home folder, who has no account
    has_password: bool
    sessions: list[ActiveSession]
    tokens: list[ApiToken]


class CreatedSession(TypedDict):
    """A new session; its secret is stored in the browser's cookie."""

    session: str
    person: Person
    browser_cookie: str  # for the cookie that identifies this browser at the next sign-in
    ended_tokens: int  # API tokens revoked by a new password set with a link


class RevokedAccess(TypedDict):
    """A person's access that ended by a change of their account."""

    ended_sessions: int
    ended_tokens: int


class LoginState(TypedDict):
    """What the sign-in page needs to know."""

    team: bool  # sign-in is on


class CreatedPerson(TypedDict):
    """A person's id, as returned by a change."""

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
    """A person with their current name."""

    person_id: str
    name: str


@dataclass(kw_only=True)
class NewActivity:
    """What a command did, as recorded."""

    done_at: datetime  # naive UTC
    person_id: str
    person_name: str  # at that time, like the subject's name
    command: str  # see store.people.activity_text
    subject_kind: SubjectKind
    subject_id: str
    subject_name: str
    detail: str  # a few words, or empty
    comment_id: str | None  # for a comment on the subject; otherwise null


@dataclass(kw_only=True)
class Activity(NewActivity):
    """An entry of the activity list."""

    activity_id: int
    present: bool  # the subject still exists
    comment: str | None  # current text of the comment; null if there is none or it was deleted


@dataclass(kw_only=True)
class Comment:
    """A comment that has not been deleted."""

    comment_id: str
    subject_kind: CommentSubjectKind
    subject_id: str
    person_id: str
    person_name: str  # at that time
    text: str  # plain text, with line breaks
    mentions: list[PersonName]  # people mentioned with @, as resolved when it was written
    written_at: datetime  # naive UTC
    edited_at: datetime | None


class CreatedComment(TypedDict):
    """Response of `comment`."""

    comment_id: str


@dataclass(kw_only=True)
class Gpu:
    """A GPU; null for values that the driver does not report."""

    index: int
    name: str | None
    utilization_percent: float | None
    memory_used_gib: float | None
    memory_total_gib: float | None
    temperature_c: float | None


@dataclass(kw_only=True)
class MachineReading:
    """Response of `GET /machine`."""

    cpu_percent: float
    cores: int
    memory_used_gib: float
    memory_total_gib: float
    disk_free_gib: float
    gpus: list[Gpu]
    devices: list[str]  # available to runs: cuda:N for each GPU, or cpu
    bf16: bool  # bfloat16 is fast here


class Health(TypedDict):
    """Response of `GET /health`, the only route that needs no token."""

    name: str  # tunebench
    version: str
    pid: int
    home: str


@dataclass(kw_only=True)
class HourPrice:
    """Cost of an hour of the machine."""

    per_hour: float | None  # null: not set
    currency: str


class UploadResult(TypedDict):
    """Response of `PUT /uploads/NAME`."""

    upload: str  # name to use for the import


@dataclass(kw_only=True)
class LostCommits:
    """Commits in the journal next to the store that the store lacks. Times are seconds since the epoch."""

    found_at: float
    commits: int
    understood: int  # of these, with known changes; unknown for those from before a checkpoint
    first_at: float | None  # of these
    last_at: float | None
    rows: dict[str, int]  # table -> rows added, changed or removed by them
