"""Giving way and hurrying, in processes of their own: the tests' own priority stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowobs.scheduling import HURRY_SECONDS, NICE

TASKS = """
import json, os, threading, time
from pathlib import Path
from flowobs.scheduling import Pace

def tasks():
    ids = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    return [(os.sched_getscheduler(i), os.getpriority(os.PRIO_PROCESS, i)) for i in ids]

now, told = 0.0, []
done = threading.Event()
thread = threading.Thread(target=done.wait)
thread.start()
"""


def run(code: str, *, session: bool = False, prefix: tuple[str, ...] = ()) -> object:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", TASKS + code + "\ndone.set()\nprint(json.dumps(told))"],
        capture_output=True,
        check=True,
        start_new_session=session,
    )
    return json.loads(done.stdout)


@pytest.mark.root
def test_all_threads_give_way() -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    told = run("Pace().note(False)\ntold = tasks()")
    assert told == [[os.SCHED_BATCH, min(19, mine + NICE)]] * 2


@pytest.mark.root
def test_a_backlog_is_worked_off_with_a_full_share() -> None:
    code = f"""
pace = Pace(clock=lambda: now)
for now, behind in ((0, False), (1, True), (2, False), ({1 + HURRY_SECONDS}, False)):
    pace.note(behind)
    told.append([nice for _, nice in tasks()])
"""
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    low = min(19, mine + NICE)
    assert run(code) == [[low, low], [mine, mine], [mine, mine], [low, low]]


@pytest.mark.root
def test_who_may_not_take_the_share_back_keeps_it() -> None:
    code = "pace = Pace()\nfor behind in (False, True):\n    pace.note(behind)\n    told += tasks()"
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    held = run(code, prefix=("setpriv", "--bounding-set=-sys_nice"))
    assert held == [[os.SCHED_BATCH, mine]] * 4


@pytest.mark.root
def test_a_session_of_our_own_gives_way_as_a_whole() -> None:
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("this kernel does not share the CPUs by session")
    code = "Pace().note(False)\ntold = Path('/proc/self/autogroup').read_text().split()"
    text = run(code, session=True)
    assert isinstance(text, list)
    assert text[-2:] == ["nice", str(NICE)]
