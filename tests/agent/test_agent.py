"""An agent as a whole."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowobs.agent.agent import Agent
from flowobs.agent.config import AgentConfig
from tests.agent.netlab import NetLab


@pytest.mark.root
@pytest.mark.bpf
async def test_a_part_that_ends_by_itself_ends_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces and eBPF need root")

    def broken() -> None:
        raise ZeroDivisionError

    with NetLab() as lab:
        agent = Agent(
            AgentConfig(
                relay=f"unix://{tmp_path}/nobody.sock",
                loader="core",
                netns=lab.near,
                identity="none",
                metrics="127.0.0.1:0",
            )
        )
        await asyncio.to_thread(agent.start)
        agent._resolver.poll = broken  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            await agent.run()
    assert "ending" in agent.problem()


@pytest.mark.root
def test_somebody_without_rights_hears_of_that_and_nothing_else() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give rights away")
    script = "from flowobs.cli.agent import agent; agent()"
    nobody = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable]
    done = subprocess.run([*nobody, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: loading probes needs root")
