"""What simulations came to whose truth is known, as `bench/truth.py --write` leaves it."""

from __future__ import annotations

from typing import TypedDict


class SimulatedRate(TypedDict):
    """How often something happened where the truth is known, and how often it should; shares from 0 to 1."""

    name: str
    draws: int  # that counted: one in which no figure is given does not
    nominal: float  # what is promised
    low: float  # the observed share must be at least this
    high: float  # and at most this
    observed: float | None  # null where no draw counted
    holds: bool  # so many draws leave it open that the share lies between the two


class SimulatedTopic(TypedDict):
    """The rates of one file of the bench, measured together."""

    topic: str  # the file's name
    about: str  # what it asks, in a paragraph
    date: str  # of the measurement, in UTC: "2026-11-30"
    commit: str  # of the code that was asked; ends in "-dirty" where files differed from it
    share: float  # of the draws that the rates ask for; under 1 it was a first look
    seconds: float  # of one processor core
    rates: list[SimulatedRate]


class SimulatedTruth(TypedDict):
    """All topics, each as it was last measured."""

    topics: list[SimulatedTopic]  # by name
