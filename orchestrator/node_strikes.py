"""Which nodes to keep off, from the ends that blame them. Pure.

A node that kills every job in two seconds is always free, so it gets the next job, too: without a
memory it eats the queue. The memory is short and never believes too much of the cluster bad.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.facts import Blame

MAX_NODES = 1000  # of one strike
NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_PART = re.compile(r"([A-Za-z0-9._-]+)(?:\[([0-9,-]+)\])?")


@dataclass(frozen=True, kw_only=True)  # no slots: defaults are read from the class
class NodeRules:
    """When a node is kept off, and for how long (seconds)."""

    strikes: int = 3  # distinct jobs that died on it …
    failures: int = 2  # … or times that the site itself called the node failed …
    window: float = 3600.0  # … within this time
    lasting: float = 3600.0  # after so many
    probation: float = 300.0  # after a single one: the job goes elsewhere at first
    share: float = 0.25  # of the nodes; at least one, where there are several; 0: none, ever
    most_unknown: int = 2  # where nobody says how many nodes there are; none where share is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One end that blames one node."""

    node: str
    job: str
    at: float  # wall clock seconds
    blame: Blame
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """A node that new and waiting tasks keep off."""

    node: str
    why: str
    since: float
    until: float


def expand_nodes(text: str) -> tuple[str, ...]:
    """Return the nodes of `n[1-3,7],gpu01`; nothing where the text is no such list."""
    found: list[str] = []
    for part in re.split(r",(?![^\[]*\])", text):
        match = _PART.fullmatch(part)
        if match is None:
            return ()
        for number in _numbers(match[2]):
            found.append(match[1] + number)
            if len(found) > MAX_NODES:
                return ()
    return tuple(found)


def _numbers(text: str | None) -> list[str]:
    if text is None:
        return [""]
    numbers: list[str] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            return []
        end = min(int(last or first), int(first) + MAX_NODES)
        numbers += [str(n).zfill(len(first)) for n in range(int(first), end + 1)]
    return numbers


def strikes_of(nodes: str, *, job: str, at: float, blame: Blame, why: str) -> tuple[Strike, ...]:
    """Return the strikes of one end. Of several nodes nobody knows which one failed."""
    names = expand_nodes(nodes)
    weight = blame if len(names) == 1 else Blame.SUSPECT
    return tuple(Strike(node=name, job=job, at=at, blame=weight, why=why) for name in names)


def exclusions(
    strikes: Sequence[Strike],
    *,
    now: float,
    nodes: Sequence[str] | None,
    forgiven: Mapping[str, float],
    rules: NodeRules,
) -> tuple[Exclusion, ...]:
    """Return the nodes to keep off now, by name. `nodes`: all there are; None: nobody says.

    When more nodes are under a single suspicion than may be kept off, none is: what happens
    everywhere is no node's fault.
    """
    by_node: dict[str, list[Strike]] = {}
    for strike in strikes:
        known = nodes is None or strike.node in nodes
        if known and strike.at > forgiven.get(strike.node, float("-inf")) and strike.at <= now:
            by_node.setdefault(strike.node, []).append(strike)
    lasting, probation = [], []
    for node, some in by_node.items():
        found = _lasting(node, some, rules)
        if found is not None and found.until > now:
            lasting.append((len({s.job for s in some}), found))
        elif some[-1].at + rules.probation > now:
            probation.append(_exclusion(node, some[-1:], some[-1].at + rules.probation))
    room = _room(nodes, rules)
    lasting.sort(key=lambda item: (-item[0], -item[1].until, item[1].node))
    kept = [found for _, found in lasting[:room]]
    if len(probation) <= room - len(kept):
        kept += probation
    return tuple(sorted(kept, key=lambda found: found.node))


def _lasting(node: str, strikes: Sequence[Strike], rules: NodeRules) -> Exclusion | None:
    """Return the exclusion by the newest strike that was one too many; None: none was."""
    found = None
    for place, strike in enumerate(strikes):
        recent = [s for s in strikes[: place + 1] if s.at > strike.at - rules.window]
        suspicions = {s.job for s in recent if s.blame is not Blame.CERTAIN}
        if len(suspicions) >= rules.strikes or _failures(recent, rules) >= rules.failures:
            found = _exclusion(node, recent, strike.at + rules.lasting)
    return found


def _failures(strikes: Sequence[Strike], rules: NodeRules) -> int:
    """Return how often the site called the node failed: all jobs of one time die together."""
    times = [strike.at for strike in strikes if strike.blame is Blame.CERTAIN]
    return sum(
        place == 0 or at - times[place - 1] > rules.probation for place, at in enumerate(times)
    )


def _exclusion(node: str, strikes: Sequence[Strike], until: float) -> Exclusion:
    jobs = len({strike.job for strike in strikes})
    died = f"{jobs} jobs died on it" if jobs > 1 else "a job died on it"
    return Exclusion(node=node, why=f"{died}: {strikes[-1].why}", since=strikes[-1].at, until=until)


def _room(nodes: Sequence[str] | None, rules: NodeRules) -> int:
    if rules.share == 0:
        return 0
    if nodes is None:
        return rules.most_unknown
    return max(1, int(rules.share * len(nodes))) if len(nodes) > 1 else 0
