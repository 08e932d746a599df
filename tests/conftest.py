"""What holds for all tests."""

import signal

import pytest
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


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Repeat a failed test of real probes where this machine kept events from them."""
    if not pyfuncitem.get_closest_marker("bpf") or not (kept := unseen()):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for _ in range(_REPEATS):
        kept.clear()
        try:
            pyfuncitem.obj(**arguments)
        except Exception as error:
            if not (events := kept.count()):
                raise
            _repeated.append(f"{pyfuncitem.nodeid}: {events} events kept from programs; {error!r}")
        else:
            return True
    pyfuncitem.obj(**arguments)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _repeated:
        terminalreporter.section("repeated (tests/unseen.py)")
        for line in _repeated:
            terminalreporter.write_line(line[:200])
