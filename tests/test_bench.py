"""The benchmarks' runner; the benchmarks themselves are `make bench`."""

from __future__ import annotations

import json

import pytest

import bench
from bench import __main__ as runner

FIGURE = {
    "bench": "reader",
    "metric": "decode",
    "value": 12345.6,
    "unit": "ns",
    "against": "memcpy",
    "ratio": 2.5,
}


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "names", lambda: ["reader"])
    monkeypatch.setattr(bench, "load", lambda name: lambda: [FIGURE])


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    return runner.main()


def test_prints_a_table(
    one: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch) == 0

    assert capsys.readouterr().out.splitlines() == [
        "reader",
        "  metric  value   unit  ratio  against",
        "  decode  12,346  ns    2.5    memcpy",
    ]


def test_prints_one_json_object_per_figure(
    one: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--json", "reader") == 0

    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [FIGURE]


def test_an_unknown_name_lists_the_names(
    one: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "kernle") == 2

    assert capsys.readouterr().err == "there is no benchmark kernle; there are: reader\n"


def test_a_benchmark_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str) -> object:
        if name == "broken":
            raise RuntimeError("no such probe")
        return lambda: [FIGURE]

    monkeypatch.setattr(bench, "names", lambda: ["broken", "reader"])
    monkeypatch.setattr(bench, "load", load)

    assert call(monkeypatch, "--json") == 1
    captured = capsys.readouterr()
    assert captured.err == "broken: RuntimeError: no such probe\n"
    assert json.loads(captured.out) == FIGURE
