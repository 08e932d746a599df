"""What holds for all tests."""

import signal

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import settings

from tests.unseen import unseen

# on a busy machine any example may take longer than the default of 200 ms
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# a shell's background job ignores Ctrl-C, and so would all programs that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_REPEATS = 2
_repeated: list[str] = []


def pytest_runtest_protocol(item: pytest.Function, nextitem: pytest.Item | None) -> bool | None:
    """Repeat a failed test of real probes, with all it is made on, where this machine kept events
    from them.
    """
    if not item.get_closest_marker("bpf") or not (kept := unseen()):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(_REPEATS + 1)):
        kept.clear()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        failed = [report for report in reports if report.failed]
        if not (failed and left and (events := kept.count())):
            break
        why = failed[0].longreprtext.strip().splitlines()[-1]
        _repeated.append(f"{item.nodeid}: {events} events kept from programs; {why}")
        item.session._setupstate.teardown_exact(None)
        item._initrequest()
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _repeated:
        terminalreporter.section("repeated (tests/unseen.py)")
        for line in _repeated:
            terminalreporter.write_line(line)
