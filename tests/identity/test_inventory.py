"""Reloads of the inventory file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from flowobs.identity import InventoryError, InventorySource
from tests.identity.fakes import ip

ONE = "hosts: [{name: one, addresses: [10.0.0.1]}]"
TWO = "hosts: [{name: two, addresses: [10.0.0.1]}]"
BROKEN = "hosts: [{name: two}]"


class Clock:
    now = 1000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(tmp_path: Path, clock: Clock) -> InventorySource:
    path = tmp_path / "i.yaml"
    path.write_text(ONE)
    source = InventorySource(path, clock=clock)
    source.load()
    return source


def name(source: InventorySource, time: int) -> str:
    endpoint = source.by_address(ip("10.0.0.1"), time).endpoint
    return endpoint.name if endpoint else ""


def write(source: InventorySource, text: str) -> None:
    new = source.path.with_suffix(".new")
    new.write_text(text)
    new.replace(source.path)


def test_the_first_load_names_older_records_too(source: InventorySource) -> None:
    assert name(source, 0) == "one"


def test_the_first_load_raises(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="no such file"):
        InventorySource(tmp_path / "none").load()


def test_a_reload_names_only_what_comes_after_it(source: InventorySource, clock: Clock) -> None:
    before = source.generation
    write(source, TWO)
    source.poll()
    assert (name(source, clock.now - 1), name(source, clock.now)) == ("one", "two")
    assert source.generation > before
    assert source.reloads == 1


def test_an_unchanged_file_is_not_read_again(source: InventorySource) -> None:
    source.poll()
    assert (source.generation, source.reloads) == (1, 0)
    os.utime(source.path, ns=(5, 5))
    source.poll()
    assert source.reloads == 1


def test_a_broken_file_keeps_the_old_names_and_says_so_once(
    source: InventorySource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    write(source, BROKEN)
    for _ in range(3):
        source.poll()
    assert name(source, 2000) == "one"
    assert len(caplog.records) == 1
    assert "i.yaml:1: hosts[0]: addresses is missing; add it" in caplog.text
    assert (source.failures, source.generation) == (1, 1)
    assert "addresses is missing" in source.problem
    source._broken_since -= 95  # type: ignore[operator]
    assert source.age_s == 95


def test_a_file_that_is_gone_keeps_the_old_names(source: InventorySource) -> None:
    source.path.unlink()
    source.poll()
    source.poll()
    assert (name(source, 2000), source.failures) == ("one", 1)


def test_a_repaired_file_is_taken(source: InventorySource) -> None:
    write(source, BROKEN)
    source.poll()
    write(source, TWO)
    source.poll()
    assert (name(source, 2000), source.problem, source.age_s) == ("two", "", 0)
