"""When a save is left out, and when a person is warned (pure)."""

from __future__ import annotations

import pytest

from worker.deadline import Lived, grace_warning, learned_grace, learned_words, too_late


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


def lived(*seconds: float, survived: tuple[float, ...] = ()) -> list[Lived]:
    """Return attempts that were killed so long after their notice, and some that left."""
    killed = [Lived(epoch=n, seconds=s, killed=True) for n, s in enumerate(seconds, start=1)]
    return killed + [Lived(epoch=9, seconds=s, killed=False) for s in survived]


@pytest.mark.parametrize(
    ("attempts", "grace"),
    [
        (lived(), None),
        (lived(survived=(3.0, 4.0)), None),  # they left when they were ready
        (lived(8.0), None),  # one death may have another reason
        (lived(8.0, 7.9), 8.0),
        (lived(0.4, 8.0), 8.0),  # a node that failed shortens nothing
        (lived(8.0, 7.9, survived=(11.0,)), 11.0),  # so long it was at least
        (lived(30.2, 30.1), None),  # as configured
    ],
)
def test_the_grace_time_is_learned_from_deaths(attempts: list[Lived], grace: float | None) -> None:
    """Only towards less than configured, and never less than anybody had."""
    assert learned_grace(attempts, configured=30.0) == grace


def test_what_was_learned_is_said_with_its_evidence() -> None:
    """The line names the attempts, both figures and the key to set."""
    words = learned_words(lived(8.0, 7.9, survived=(3.0,)), learned=8.0, configured=30.0)
    assert words.startswith("grace_seconds is 30, but attempts 1, 2 were killed")
    assert "8.0 s" in words
