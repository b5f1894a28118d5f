"""Nothing goes before enough newer ones are verified (pure; searched by hypothesis)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints.retention import newest_first, plan_retention
from jobs.contract.paths import checkpoint_name

names = st.builds(checkpoint_name, step=st.integers(0, 40), epoch=st.integers(1, 5))
stores = st.lists(names, unique=True, max_size=25).flatmap(
    lambda all_names: st.tuples(
        st.permutations(all_names),
        st.sets(st.sampled_from(all_names)) if all_names else st.just(set[str]()),
        st.sets(st.sampled_from(all_names)) if all_names else st.just(set[str]()),
    )
)


@given(stores, st.integers(2, 5))
def test_whatever_is_deleted_is_superseded(
    case: tuple[list[str], set[str], set[str]], keep: int
) -> None:
    """Each deleted one has `keep` verified newer ones that stay; protected ones stay."""
    present, verified, protect = case
    plan = plan_retention(present, verified=verified, keep=keep, protect=protect)
    order = newest_first(present)
    for name in plan.delete:
        newer = order[: order.index(name)]
        assert len([n for n in newer if n in verified and n in plan.keep]) >= keep
        assert name not in protect
    assert sorted((*plan.delete, *plan.keep)) == sorted(present)
    assert list(plan.keep) == newest_first(plan.keep)
    assert list(plan.delete) == newest_first(plan.delete)[::-1]
    assert len(verified & set(plan.keep)) >= min(keep, len(verified))


@given(stores, st.integers(2, 5))
def test_repeating_it_deletes_nothing_more(
    case: tuple[list[str], set[str], set[str]], keep: int
) -> None:
    """Killed and started again, or simply called twice: the same checkpoints stay."""
    present, verified, protect = case
    first = plan_retention(present, verified=verified, keep=keep, protect=protect)
    second = plan_retention(
        first.keep, verified=verified & set(first.keep), keep=keep, protect=protect
    )
    assert second.delete == ()
    assert second.keep == first.keep


@given(stores)
def test_all_that_is_superseded_goes(case: tuple[list[str], set[str], set[str]]) -> None:
    """It keeps no more than it must: unprotected ones behind two verified ones are deleted."""
    present, verified, protect = case
    plan = plan_retention(present, verified=verified, keep=2, protect=protect)
    order = newest_first(present)
    for name in plan.keep:
        newer = [n for n in order[: order.index(name)] if n in verified]
        assert name in protect or len(newer) < 2


def test_a_higher_epoch_is_newer_than_a_higher_step() -> None:
    """An attempt that fell back has smaller steps and is still the newer one."""
    assert newest_first(["step-00000100.e0001", "step-00000050.e0002"])[0].endswith("e0002")


def test_unknown_names_are_nobodys_business() -> None:
    """Neither kept nor deleted: they are not checkpoints."""
    plan = plan_retention(
        ["staging", "step-000000100.e0001", "step-00000100.e0001.bak", "step-00000100.e0001"],
        verified=(),
        keep=2,
        protect=(),
    )
    assert plan.keep == ("step-00000100.e0001",)
    assert plan.delete == ()


@pytest.mark.parametrize("keep", [-1, 0, 1])
def test_fewer_than_two_is_refused(keep: int) -> None:
    """With one checkpoint, a bad one would be all there is."""
    with pytest.raises(ValueError, match="at least 2"):
        plan_retention((), verified=(), keep=keep, protect=())


@given(stores, st.integers(2, 4), st.integers(1, 12))
def test_milestones_stay_and_the_other_rules_hold(
    case: tuple[list[str], set[str], set[str]], keep: int, every: int
) -> None:
    """Of each multiple, one checkpoint, the newest, is never deleted; nothing else is spared."""
    present, verified, protect = case
    rules = {"verified": verified, "keep": keep, "protect": protect}
    plain = plan_retention(present, **rules)
    plan = plan_retention(present, **rules, every_steps=every)
    spared = set(plan.keep) - set(plain.keep)
    steps = [int(name[5:13]) for name in spared]
    assert all(step and step % every == 0 for step in steps)
    assert len(steps) == len(set(steps))
    for name in present:
        step = int(name[5:13])
        if step and step % every == 0:
            assert any(int(kept[5:13]) == step for kept in plan.keep)
