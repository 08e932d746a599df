"""ui/dev/mock-relay.mjs as a context manager: the HTTP contract over made-up traffic."""

from __future__ import annotations

import subprocess
import urllib.request
from types import TracebackType

from tests.ui.browser import UI


class MockRelay:
    """Serves the built app and a synthetic shop; ``mode`` is one of those in mock-relay.mjs."""

    def __init__(self, mode: str = "shop", *, port: int = 0, prefix: str = "") -> None:
        self._command = ["node", str(UI / "dev" / "mock-relay.mjs"), "--mode", mode]
        self._command += ["--port", str(port), "--prefix", prefix]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> MockRelay:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("mock relay on "), line
        self.url = line.split()[-1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None and self._process.stdout is not None
        self._process.terminate()
        self._process.wait(60)
        self._process.stdout.close()

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])

    def post(self, query: str) -> None:
        """Changes the mode while it runs: ``mode=no-flows``."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/_mock?{query}", method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 200
