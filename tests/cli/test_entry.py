"""Ctrl-C while modules are still being imported ends a command without a traceback."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys

import click
import pytest

from flowobs.cli.errors import CliError
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
    ended: list[int] = []

    def interrupted(name: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise ModuleNotFoundError(name="flowobs")

    monkeypatch.setattr(importlib, "import_module", interrupted)
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(CliError):
        flowobs.get_command(click.Context(flowobs), "agent")
    assert ended == [130]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_doctor_loads() -> None:
    script = (
        "import ctypes, os, signal\n"
        "from flowobs.agent import doctor\n"
        "callback = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "def load(choice):\n"
        "    callback()\n"
        "    raise doctor.LoadError('')\n"
        "doctor.load = load\n"
        "from flowobs.cli.entry import flowobs\n"
        "flowobs()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, "doctor"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
