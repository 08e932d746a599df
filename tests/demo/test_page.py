"""The real demo on the real page, in a real browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

import pytest

from flowobs.demo import expect
from tests.demo.test_demo import DEMO, clean_machine
from tests.ui.browser import edges, require_app, require_browser

__all__ = ["clean_machine"]

pytestmark = [
    pytest.mark.root,
    pytest.mark.bpf,
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"),
]

PAGE_S = 60.0


def test_the_demos_edges_are_on_the_page(clean_machine: None) -> None:
    require_browser()
    require_app()
    wanted = {
        (f"{source}->{destination}:{port}", proto)
        for source, destination, proto, port in (edge.key for edge in expect.edges())
    }
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        found = next(filter(None, (re.search(r"web map +(\S+)", line) for line in demo.stdout)))
        missing, deadline = wanted, time.monotonic() + PAGE_S
        while missing and time.monotonic() < deadline:
            shown = {(edge.edge, edge.proto): edge for edge in edges(found[1])}
            missing = wanted - shown.keys()
        refused = shown[("jobs/batch-0->shop/redis-0:6380", "tcp")]
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=30)
    assert not missing
    assert refused.bad and "NO_SOCKET" in refused.text
