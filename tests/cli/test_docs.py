from __future__ import annotations

from tests.cli.reference import MARK, PAGE, reference


def test_the_reference_is_up_to_date() -> None:
    _, mark, generated = PAGE.read_text().partition(MARK)
    assert mark
    assert generated == f"\n{reference()}", "run: python -m tests.cli.reference"
