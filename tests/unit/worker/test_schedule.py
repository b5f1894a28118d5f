"""The learning rate is a pure function of the step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.spec import TrainSpec
from worker.schedule import lr_at


def test_warm_up_rises_and_linear_falls() -> None:
    """Known values: three steps of warm-up, then a line that would reach 0 at the end."""
    train = TrainSpec(steps=7, lr=0.6, schedule="linear", warmup_steps=3)

    rates = [lr_at(train, step) for step in range(7)]

    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.6, 0.45, 0.3, 0.15])


def test_cosine_and_constant() -> None:
    """Cosine is at the half in the middle; constant stays."""
    cosine = TrainSpec(steps=4, lr=1.0, schedule="cosine")
    constant = TrainSpec(steps=4, lr=1.0, schedule="constant", warmup_steps=1)

    assert lr_at(cosine, 0) == 1.0
    assert lr_at(cosine, 2) == pytest.approx(0.5)
    assert [lr_at(constant, step) for step in range(4)] == [1.0] * 4


def test_warm_up_may_take_all_steps() -> None:
    """No division by the zero steps that are left."""
    train = TrainSpec(steps=2, lr=1.0, warmup_steps=2)

    assert [lr_at(train, 0), lr_at(train, 1)] == [0.5, 1.0]


@pytest.mark.parametrize("step", [-1, 5])
def test_steps_outside_the_training_are_refused(step: int) -> None:
    """A loop that runs too far must not train at a negative rate."""
    with pytest.raises(ValueError, match="not one of 0 … 4"):
        lr_at(TrainSpec(steps=5), step)


@given(
    steps=st.integers(1, 1000),
    share=st.floats(0, 1),
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    place=st.floats(0, 1, exclude_max=True),
)
def test_rates_stay_between_zero_and_the_peak(
    steps: int, share: float, schedule: str, place: float
) -> None:
    """For every schedule, length and warm-up."""
    train = TrainSpec.model_validate(
        {"steps": steps, "lr": 0.1, "schedule": schedule, "warmup_steps": int(share * steps)}
    )

    assert 0 < lr_at(train, int(place * steps)) <= 0.1 + 1e-12
