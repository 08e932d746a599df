"""Ctrl-C while modules are still being imported ends a command without a traceback."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys

import click
import pytest

from flowobs.cli.flowobs import flowobs


@pytest.mark.parametrize("command", ["flows", "flowobs"])
def test_ctrl_c_before_the_command_is_there(command: str) -> None:
    slow = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click':\n"
        "            print('importing', flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        f"from flowobs.cli.entry import {command}\n"
        f"{command}()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
    assert process.returncode == 130


def test_ctrl_c_while_a_lazy_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    with pytest.raises(click.exceptions.Exit) as end:
        flowobs.get_command(click.Context(flowobs), "agent")
    assert end.value.exit_code == 130
