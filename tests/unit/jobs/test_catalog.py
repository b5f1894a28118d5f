"""The catalog agrees with the spec, and with itself."""

from __future__ import annotations

from typing import get_args

import pytest

from jobs.catalog import (
    ARCHITECTURES,
    DEFAULT_ARCHITECTURE,
    FAMILIES,
    METHOD_FAMILIES,
    SCHEDULES,
    TASKS,
    Architecture,
    architecture_of,
    full_config,
    supported_families,
)
from jobs.spec import Family, MethodSpec, TaskSpec, TrainSpec

BY_NAME = sorted(ARCHITECTURES)


def test_the_words_are_those_of_the_spec() -> None:
    """One list would otherwise allow what the other refuses."""
    assert set(FAMILIES) == set(get_args(Family))
    assert set(SCHEDULES) == set(get_args(TrainSpec.model_fields["schedule"].annotation))
    assert set(TASKS) == set(get_args(TaskSpec.model_fields["name"].annotation))
    methods = {
        get_args(kind.model_fields["name"].annotation)[0]
        for kind in get_args(get_args(MethodSpec)[0])
    }
    assert set(METHOD_FAMILIES) == methods


@pytest.mark.parametrize("name", BY_NAME)
def test_an_architecture_is_consistent(name: str) -> None:
    """Defaults obey the architecture's own rules; what it names exists."""
    architecture: Architecture = ARCHITECTURES[name]
    config = full_config(architecture, {})

    assert architecture.name == name
    assert architecture.family in FAMILIES
    assert set(architecture.lora_targets) <= set(architecture.linear_modules)
    assert not set(architecture.keys) & set(architecture.reserved)
    for size, part in architecture.multiples:
        assert {size, part} <= set(architecture.keys)
        assert part not in config or int(config[size]) % int(config[part]) == 0
    assert architecture.positions is None or architecture.positions in config
    for key, value in config.items():
        limits = architecture.keys[key]
        assert limits.least is None or value >= limits.least  # type: ignore[operator]
        assert limits.below is None or value < limits.below  # type: ignore[operator]
        assert not limits.choices or value in limits.choices


def test_what_is_written_wins_over_a_default() -> None:
    """Defaults fill gaps only."""
    config = full_config(ARCHITECTURES["gpt2"], {"n_layer": 7})

    assert (config["n_layer"], config["n_embd"]) == (7, 64)
    assert "n_inner" not in config  # derived by the architecture


def test_a_family_has_a_default_architecture_of_its_own() -> None:
    """A bare `config` means the family's default; another family's name means nothing."""
    for family, name in DEFAULT_ARCHITECTURE.items():
        found = architecture_of(family, None)
        assert found is not None
        assert (found.name, found.family) == (name, family)
    assert architecture_of("encoder", "gpt2") is None
    assert architecture_of("decoder", "nothing") is None


def test_unknown_methods_support_nothing() -> None:
    """Not an exception: the schema has said that the method is unknown."""
    assert supported_families("prefix") == ("decoder", "seq2seq")
    assert supported_families("nothing") == ()
