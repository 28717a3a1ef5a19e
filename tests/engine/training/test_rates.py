"""Rates of a device, and what operations are counted as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.models import hardware
from engine.models.forward import operations
from engine.training.costs.rehearsal import LiveMemoryTracker
from store.core.home import Home

CPU, META = torch.device("cpu"), torch.device("meta")
SHAPE = (64, 64, 128)


def done(run: object, *shapes: tuple[int, ...]) -> list[float]:
    """What a function does with fp32 tensors of these shapes."""
    given = [torch.empty(shape, device=META) for shape in shapes]
    with LiveMemoryTracker() as living:
        run(*given)  # type: ignore[operator]
    return living.done[0]


def test_products_are_two_operations_a_number_and_row() -> None:
    assert done(torch.mm, (100, 200), (200, 300)) == [2 * 100 * 200 * 300, 0, 0, 1]
    assert done(torch.addmm, (100, 300), (100, 200), (200, 300))[0] == 2 * 100 * 200 * 300
    assert done(lambda y, a, b: y.addmm_(a, b), (100, 300), (100, 200), (200, 300))[0] == 2 * 6e6
    assert done(F.linear, (5, 20, 200), (300, 200))[0] == 2 * 100 * 200 * 300
    assert done(torch.bmm, (7, 100, 200), (7, 200, 300)) == [0, 7 * 2 * 6e6, 0, 1]


def test_a_narrow_product_waits_for_its_bytes() -> None:
    assert done(torch.mm, (100, 200), (200, 16)) == [0, 0, 4 * (100 * 200 + 200 * 16 + 100 * 16), 1]


def test_all_else_is_what_it_reads_and_writes() -> None:
    size = 4 * 6000
    assert done(torch.add, (60, 100), (60, 100)) == [0, 0, 3 * size, 1]
    assert done(lambda x, y: x.copy_(y), (60, 100), (60, 100)) == [0, 0, 2 * size, 1]
    assert done(lambda x: x.to(torch.bfloat16), (60, 100)) == [0, 0, 1.5 * size, 1]
    assert done(lambda x: x.view(6000), (60, 100)) == [0, 0, 0, 0]
    assert done(torch.empty_like, (60, 100))[2] == 0
    few = torch.empty(10, dtype=torch.int64, device=META)
    assert done(lambda table: table.index_select(0, few), (5000, 100))[2] == 2 * 4 * 10 * 100


def test_an_operation_may_stand_for_many() -> None:
    def run(x: torch.Tensor) -> None:
        with operations.repeat_operations(3), operations.repeat_operations(2.5):
            x.exp()
        x.exp()

    assert done(run, (60, 100)) == [0, 0, 8.5 * 2 * 24_000, 8.5]


def test_the_best_rates_are_kept_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path).create()
    seconds = iter([2.0] * 4 + [4.0] * 4 + [1.0] * 4 + [4.0] * 4)
    monkeypatch.setattr(hardware, "_time_fastest", lambda *_: next(seconds))

    def rates(shape: tuple[int, int, int] = SHAPE) -> hardware.DeviceRates:
        return hardware.measure_device_rates(home, CPU, torch.float32, shape, 64)

    first, slower, faster = rates(), rates(), rates()
    assert slower == first
    assert faster.products == 2 * first.products
    assert (faster.attention, faster.moved) == (2 * first.attention, 2 * first.moved)
    assert faster.call == first.call / 2
    other = rates((64, 64, 256))
    assert other.products == pytest.approx(first.products)  # nothing kept of this size
    assert other.attention == faster.attention


def test_rates_are_measured(tmp_path: Path) -> None:
    rates = hardware.measure_device_rates(Home(tmp_path).create(), CPU, torch.float32, SHAPE, 64)
    assert 1e8 < rates.products < 1e14
    assert 1e8 < rates.attention < 1e14
    assert 1e7 < rates.moved < 1e13
    assert 1e-8 < rates.call < 1e-2
    work = np.array([rates.products, 2 * rates.attention, 3 * rates.moved, 4 / rates.call])
    assert rates.seconds(work) == pytest.approx(10)


def test_sizes_are_powers_of_two_up_to_what_is_measured() -> None:
    assert [hardware.round_to_power(n) for n in (1, 60, 576, 1536, 28_672)] == [32, 64, 512, 2048, 2048]
