from __future__ import annotations

import importlib

import click
import pytest

from flowobs.cli import begin
from flowobs.cli.flowobs import flowobs


def interrupted(name: str) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_is_quiet_while_modules_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", interrupted)
    with pytest.raises(SystemExit) as stop:
        begin.flows()
    assert stop.value.code == 130
    with pytest.raises(click.exceptions.Exit) as end:
        flowobs.get_command(click.Context(flowobs), "agent")
    assert end.value.exit_code == 130
