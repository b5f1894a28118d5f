"""Which ends make a node one to keep off, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.facts import Blame
from orchestrator.node_strikes import NodeRules, Strike, exclusions, expand_nodes, strikes_of
from orchestrator.site_schema import NodeStrikes

RULES = NodeRules()
NODES = tuple(f"n{i}" for i in range(1, 13))  # room for 3
NOW = 100_000.0


def strike(node: str, job: str = "a", *, ago: float = 10.0, blame: Blame = Blame.SUSPECT) -> Strike:
    """Return a strike of so many seconds ago."""
    return Strike(node=node, job=job, at=NOW - ago, blame=blame, why="node: it died")


def kept_off(
    *strikes: Strike, nodes: tuple[str, ...] | None = NODES, **forgiven: float
) -> list[str]:
    """Return the nodes that are kept off now."""
    ordered = sorted(strikes, key=lambda one: one.at)
    found = exclusions(ordered, now=NOW, nodes=nodes, forgiven=forgiven, rules=RULES)
    return [one.node for one in found]


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("n1", ("n1",)),
        ("n[1-3,7],gpu01", ("n1", "n2", "n3", "n7", "gpu01")),
        ("c[08-10]", ("c08", "c09", "c10")),
        ("a,b", ("a", "b")),
        ("", ()),
        ("n[1-", ()),
        ("n[x]", ()),
        ("n[1-999999999]", ()),
    ],
)
def test_node_lists_are_expanded(text: str, nodes: tuple[str, ...]) -> None:
    """As Slurm writes them; what is no such list, or absurdly long, names no node."""
    assert expand_nodes(text) == nodes


def test_three_jobs_within_the_window_make_it_last() -> None:
    """Not three deaths of one job, not three in a day."""
    three = [strike("n1", job, ago=1200) for job in "abc"]

    assert kept_off(*three) == ["n1"]
    assert kept_off(*[strike("n1", "a", ago=1200)] * 3) == []
    assert kept_off(*[strike("n1", job, ago=1200 + 3000 * i) for i, job in enumerate("abc")]) == []


def test_the_sites_own_numbers_count() -> None:
    """site.yaml says how many deaths, within what time, for how long, and of how many nodes."""
    said = {"jobs": 2, "window_minutes": 5, "keep_off_minutes": 10, "probation_minutes": 1}
    rules = NodeStrikes.model_validate(said).rules()

    def off(
        *strikes: Strike, rules: NodeRules = rules, nodes: tuple[str, ...] | None = NODES
    ) -> int:
        ordered = sorted(strikes, key=lambda one: one.at)
        return len(exclusions(ordered, now=NOW, nodes=nodes, forgiven={}, rules=rules))

    assert off(strike("n1", "a", ago=310), strike("n1", "b", ago=100)) == 1
    assert off(strike("n1", "a", ago=410), strike("n1", "b", ago=100)) == 0
    failed = [strike("n1", ago=ago, blame=Blame.CERTAIN) for ago in (590, 720)]
    assert off(*failed) == 1
    assert off(failed[0]) == 0
    once = NodeStrikes.model_validate({**said, "failures": 1}).rules()
    assert off(failed[0], rules=once) == 1
    assert off(strike("n1", ago=610, blame=Blame.CERTAIN), rules=once) == 0
    assert off(strike("n1", ago=70)) == 0
    certain = [strike(f"n{i}", f"j{i}", blame=Blame.CERTAIN) for i in range(1, 9)]
    assert off(*certain, rules=NodeStrikes(share=0.5, failures=1).rules()) == 6
    assert off(*certain, rules=NodeStrikes(share=0).rules()) == 0
    assert off(*certain, rules=NodeStrikes(share=0).rules(), nodes=None) == 0
    assert NodeStrikes().rules() == RULES


def test_a_node_that_failed_once_is_trusted_again_soon_after_two_failures_not() -> None:
    """NODE_FAIL: once may be a restart, and the site gave it back; twice, it is the node."""

    def failed(*ago: float, job: str = "a") -> list[Strike]:
        return [strike("n1", job, ago=one, blame=Blame.CERTAIN) for one in ago]

    assert kept_off(*failed(200)) == ["n1"]
    assert kept_off(*failed(400)) == []
    assert kept_off(*[one for job in "abcd" for one in failed(400, job=job)]) == []
    assert kept_off(*failed(3500, 5000)) == ["n1"]
    assert kept_off(*failed(3700, 5000)) == []
    assert kept_off(*failed(400, 4500)) == []


def test_a_single_suspicion_sends_the_next_try_elsewhere() -> None:
    """For some minutes; where it falls on many nodes at once, it falls on none."""
    assert kept_off(strike("n1", ago=200)) == ["n1"]
    assert kept_off(strike("n1", ago=400)) == []
    assert kept_off(*[strike(f"n{i}", f"job{i}") for i in range(1, 5)]) == []


def test_never_more_than_a_share_of_the_nodes() -> None:
    """The worst ones; of two nodes one, of one node none, of unknown many a few."""
    bad = [
        strike(f"n{i}", f"{i}{k}", ago=ago, blame=Blame.CERTAIN)
        for i in range(1, 9)
        for k in range(i)
        for ago in (410, 10)
    ]

    assert kept_off(*bad) == ["n6", "n7", "n8"]
    assert kept_off(*bad, nodes=("n1", "n2")) == ["n2"]
    assert kept_off(*bad, nodes=("n1",)) == []
    assert len(kept_off(*bad, nodes=None)) == RULES.most_unknown


def test_forgiven_strikes_do_not_count() -> None:
    """Later ones do."""
    old = strike("n1", ago=100, blame=Blame.CERTAIN)

    assert kept_off(old, n1=NOW - 50) == []
    assert kept_off(old, strike("n1", ago=10, blame=Blame.CERTAIN), n1=NOW - 50) == ["n1"]


def test_of_several_nodes_nobody_knows_which_failed() -> None:
    """A certain word about two nodes is a suspicion against each."""
    one = strikes_of("n1", job="a", at=NOW, blame=Blame.CERTAIN, why="")
    two = strikes_of("n[1-2]", job="a", at=NOW, blame=Blame.CERTAIN, why="")

    assert [(s.node, s.blame) for s in one] == [("n1", Blame.CERTAIN)]
    assert [(s.node, s.blame) for s in two] == [("n1", Blame.SUSPECT), ("n2", Blame.SUSPECT)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NODES), st.sampled_from("abcdef"), st.integers(0, 9000), st.booleans()
        ),
        max_size=60,
    ),
    st.integers(0, 12),
)
def test_the_share_holds_whatever_happens(
    drawn: list[tuple[str, str, int, bool]], count: int
) -> None:
    """And only nodes that exist are kept off, each once."""
    strikes = [
        strike(n, j, ago=ago, blame=Blame.CERTAIN if sure else Blame.SUSPECT)
        for n, j, ago, sure in drawn
    ]
    nodes = NODES[:count]

    found = kept_off(*strikes, nodes=nodes)

    assert len(found) == len(set(found)) <= max(count > 1, count // 4)
    assert set(found) <= set(nodes)
