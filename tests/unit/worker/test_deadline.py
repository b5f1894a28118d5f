"""When a save is left out, and when a person is warned (pure)."""

from __future__ import annotations

import pytest

from worker.deadline import grace_warning, too_late


@pytest.mark.parametrize(
    ("deadline", "save_seconds", "late"),
    [
        (None, 100.0, False),  # nobody gave a deadline
        (130.0, None, False),  # nothing is known yet: try
        (130.0, 20.0, False),  # 30 s are left
        (130.0, 25.0, False),
        (130.0, 26.0, True),  # with the safety it would take longer
        (90.0, 0.1, True),  # it is over
    ],
)
def test_a_save_is_left_out_only_where_it_cannot_be_over(
    deadline: float | None, save_seconds: float | None, late: bool
) -> None:
    """The reason names both figures."""
    said = too_late(deadline=deadline, now=100.0, save_seconds=save_seconds)

    assert (said is not None) is late
    if said is not None:
        assert f"{save_seconds:.0f} s" in said


def test_a_warning_names_the_figures_and_what_to_do() -> None:
    """Before the first preemption, not after it."""
    assert grace_warning(save_seconds=8.0, grace_seconds=30.0) is None
    warning = grace_warning(save_seconds=74.0, grace_seconds=30.0)
    assert warning is not None
    assert "74 s" in warning
    assert "30" in warning
    assert "save.every_steps" in warning
