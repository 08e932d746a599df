"""Log lines: one per event, whatever is in it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from flowobs import log


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = before
    logger.setLevel(level)


def test_key_value() -> None:
    stream = io.StringIO()
    log.setup(stream=stream)
    extra = {"address": "127.0.0.1:1", "why": 'say "no"', "empty": "", "rows": 3}
    logging.getLogger("relay.x").info("listening", extra=extra)
    time, rest = stream.getvalue().split(" ", 1)
    assert time.endswith("Z") and len(time) == 24
    assert rest == (
        'INFO relay.x listening address=127.0.0.1:1 why="say \\"no\\"" empty="" rows=3\n'
    )


def test_a_peer_cannot_forge_a_line() -> None:
    stream = io.StringIO()
    log.setup(stream=stream)
    logging.getLogger("x").warning("agent %s", "a\nb", extra={"name_": "c\nd"})
    assert len(stream.getvalue().splitlines()) == 1


def test_json() -> None:
    stream = io.StringIO()
    log.setup(as_json=True, stream=stream)
    logger = logging.getLogger("x")
    logger.debug("unseen")
    try:
        raise ValueError("inside")
    except ValueError:
        logger.exception("failed", extra={"rows": 3})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["event"], line["rows"]) == ("ERROR", "failed", 3)
    assert "ValueError: inside" in line["exception"]


def test_exceptions_follow_their_line() -> None:
    stream = io.StringIO()
    log.setup(stream=stream)
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert stream.getvalue().splitlines()[1].startswith("Traceback")
