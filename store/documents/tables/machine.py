"""This machine, and the processes that serve it."""

from __future__ import annotations

from typing import TypedDict


class Gpu(TypedDict):
    """One GPU; a figure that the driver does not give is null."""

    index: int
    name: str | None
    utilization_percent: float | None
    memory_used_gib: float | None
    memory_total_gib: float | None
    temperature_c: float | None


class MachineReading(TypedDict):
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


class HourPrice(TypedDict):
    """What an hour of the machine costs."""

    per_hour: float | None  # null: nobody said
    currency: str


class Uploaded(TypedDict):
    """The answer of `PUT /uploads/NAME`."""

    upload: str  # the name to import it by
