from __future__ import annotations

import random

import pytest

from flowobs.demo import clients


@pytest.mark.parametrize("role", sorted(clients.ROLES))
def test_a_role_has_actions_and_a_bounded_rate(role: str) -> None:
    actions, rate = clients.ROLES[role]

    assert all(weight > 0 and callable(step) for weight, step in actions(random.Random(1)))
    assert 0 < rate <= 10
