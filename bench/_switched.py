"""``flowobs``, but its agent takes its programs off their hooks on SIGUSR1, and puts them on again
on SIGUSR2, with a line each in the log once that is done. Some 20 ms, where a start takes seconds.
"""

from __future__ import annotations

import asyncio
import math
import signal
import subprocess
import time
from collections.abc import Callable

from flowobs.agent import agent
from flowobs.agent.config import AgentConfig
from flowobs.cli.flowobs import main
from tests.e2e.lab import Stack

_OFF, _ON = signal.SIGUSR1, signal.SIGUSR2
_DEAF_SECONDS = 0.5


class Switched(agent.Agent):
    """One that is stopped while its programs are off does not hurry because of that."""

    def __init__(self, config: AgentConfig, on_pace: Callable[[bool], None]) -> None:
        self._deaf_until = 0.0
        super().__init__(
            config, lambda behind: on_pace(behind and time.monotonic() > self._deaf_until)
        )

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(_OFF, self._off)
        loop.add_signal_handler(_ON, self._on)
        await super().run()

    def _off(self) -> None:
        self._deaf_until = math.inf
        self._attachments.stop()
        print("hooks off", flush=True)

    def _on(self) -> None:
        # a new one: each starts once. The enricher keeps the first, which knows the same links
        self._attachments = self._make_attachments()
        self._attachments.start()
        self._deaf_until = time.monotonic() + _DEAF_SECONDS
        print("hooks on", flush=True)


class SwitchedStack(Stack):
    """Its agent and relay can be switched on and off: with the hooks off, both stand still.

    What is left to do then is done in the next time on, as that time leaves something to the next.
    """

    _on = True

    def _spawn(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        if name == "agent":
            command = (__name__, *command[1:])
        return super()._spawn(name, *command)

    def switch(self, on: bool) -> None:
        if on == self._on:
            return
        assert self.agent is not None
        word = f"hooks {'on' if on else 'off'}"
        before = self.log("agent").count(word)
        if on:
            self._signal(signal.SIGCONT)
        self.agent.send_signal(_ON if on else _OFF)
        self.wait(lambda: self.log("agent").count(word) > before, "agent")
        if not on:
            self._signal(signal.SIGSTOP)
        self._on = on

    def stop(self) -> None:
        self._signal(signal.SIGCONT)
        super().stop()

    def _signal(self, number: signal.Signals) -> None:
        for process in (self.agent, self.relay):
            if process is not None and process.poll() is None:
                process.send_signal(number)


if __name__ == "__main__":
    agent.Agent = Switched  # type: ignore[assignment,misc]
    main()
