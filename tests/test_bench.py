"""The benchmarks' runner; the benchmarks themselves are `make bench`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bench
from bench import __main__ as runner
from bench import _pairs as pairs

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


def test_sigterm_ends_what_a_benchmark_started(tmp_path: Path) -> None:
    script = tmp_path / "started.py"
    script.write_text(
        "import time, bench\n"
        "from bench.__main__ import main\n"
        "def run():\n"
        "    try:\n"
        "        print('started', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('ended', flush=True)\n"
        "bench.names, bench.load = lambda: ['mine'], lambda name: run\n"
        "main()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, str(script), "mine"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout and process.stdout.readline() == "started\n"
        process.terminate()
        assert process.stdout.read() == "ended\n"
    assert process.returncode == 143


def test_what_drifts_is_not_taken_for_a_difference() -> None:
    """Each turn is a tenth slower than the one before it, and one with the agent a fifth more."""
    turns = [0.9**n * (0.8 if n % 2 else 1) for n in range(21)]

    ratio, itself = pairs.beside(turns)

    assert ratio == pytest.approx((0.8, 0.8, 0.8))
    assert itself == pytest.approx((1, 1, 1))


def test_p99_is_that_of_all_requests() -> None:
    quick, slow = np.array([[100, 985], [200, 15]]), np.array([[100, 995], [600, 5]])
    turns = [quick, slow, quick, slow, quick]

    ratio, itself = pairs.p99(turns)

    assert ratio == pytest.approx((0.5, 0.5, 0.5))
    assert itself == pytest.approx((1, 1, 1))
    assert pairs.p99([quick, np.array([[100, 900], [800, 100]]), slow])[0].value == 4
