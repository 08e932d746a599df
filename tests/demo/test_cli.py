from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from flowobs.cli.errors import CliError
from flowobs.demo import cli, run


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "3x", "1.5s", "s", "9999999s"])
def test_a_wrong_time_is_refused(text: str) -> None:
    result = CliRunner().invoke(cli.demo, ["--for", text])

    assert result.exit_code == 2
    assert "write it like 20s or 5m" in result.stderr


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = CliRunner().invoke(cli.demo)

    assert result.exit_code == 1
    assert re.search(r"only root may\. Use sudo\.$", result.stderr.strip())


def test_missing_programs_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cli.shutil, "which", lambda name: None if name == "dnsmasq" else name)

    with pytest.raises(CliError, match=r"apt-get install dnsmasq-base$"):
        cli.require()


def test_without_the_relays_packages_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: None)

    with pytest.raises(CliError, match=r"flowobs\[relay\]"):
        run.require_relay()


def test_an_interrupt_while_flows_is_starting_is_the_demos_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ctrl-C reaches all of the terminal: `flows`, still importing, would show a traceback."""
    told = tmp_path / "told"
    program = (
        "import pathlib, signal, time\n"
        f"new = pathlib.Path({str(told)!r} + '.new')\n"
        "new.write_text(signal.getsignal(signal.SIGINT).name)\n"
        f"new.rename({str(told)!r})\n"
        "time.sleep(60)"
    )
    monkeypatch.setattr(cli, "python", lambda module: [sys.executable, "-c", program])

    def check() -> None:
        if told.exists():
            raise KeyboardInterrupt

    watched = SimpleNamespace(url="http://127.0.0.1:1", processes=SimpleNamespace(check=check))
    with pytest.raises(KeyboardInterrupt):
        cli.show(watched)  # type: ignore[arg-type]
    assert told.read_text() == "SIG_IGN"
