"""Keeping new and waiting tasks off bad nodes: what `node_strikes` decides, carried out.

The set is computed anew in every tick and committed when it changed, with an event for each
node; then every waiting task that was told another set is told this one. Both may be repeated.
"""

from __future__ import annotations

from durable.clock import Clock
from durable.faults import hit
from orchestrator.facts import Blame
from orchestrator.node_strikes import Exclusion, NodeRules, exclusions, strikes_of
from orchestrator.schedulers.base import Scheduler, TaskKey
from orchestrator.store import Store


class NodeHealth:
    """What is known of the default scheduler's nodes."""

    def __init__(self, store: Store, clock: Clock, rules: NodeRules | None = None) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules or NodeRules()
        self._refused: dict[int, str] = {}  # task -> the set that the scheduler did not take
        self.excluded: tuple[str, ...] = ()

    def look(self, scheduler: Scheduler, *, lease_epoch: int) -> list[str]:
        """Bring the set, the store and waiting tasks up to date; return lines for people."""
        before = {row["node"]: row for row in self._store.database.rows("exclusions")}
        wanted = self._wanted(scheduler)
        self.excluded = tuple(found.node for found in wanted)
        lines = []
        if [(f.node, f.until) for f in wanted] != [(n, r["until"]) for n, r in before.items()]:
            lines = self._commit(wanted, frozenset(before), lease_epoch)
        return lines + self._tell_waiting(scheduler, lease_epoch)

    def _wanted(self, scheduler: Scheduler) -> tuple[Exclusion, ...]:
        now, rules = self._clock.wall(), self._rules
        since = now - rules.window - rules.lasting
        rows = self._store.database.rows(
            "node_strikes", {"since": since, "scheduler": scheduler.name}
        )
        if not rows:
            return ()
        strikes = [
            strike
            for row in rows
            for strike in strikes_of(
                row["nodes"],
                job=row["job"],
                at=row["at"],
                blame=Blame(row["blame"]),
                why=f"{row['class']}: {row['cause']}",
            )
        ]
        forgiven = {row["node"]: row["at"] for row in self._store.database.rows("forgiven")}
        return exclusions(strikes, now=now, nodes=scheduler.nodes(), forgiven=forgiven, rules=rules)

    def _commit(
        self, wanted: tuple[Exclusion, ...], before: frozenset[str], lease_epoch: int
    ) -> list[str]:
        lines = []
        now = self._clock.wall()
        with self._store.writing(lease_epoch):
            self._store.set_exclusions(wanted)
            for found in wanted:
                if found.node not in before:
                    words = f"{found.node} is kept off for {(found.until - now) / 60:.0f} min"
                    self._store.event("node", cause=found.why, decision=words)
                    lines.append(f"{words}: {found.why}")
            for node in sorted(before - {found.node for found in wanted}):
                words = f"{node} may be used again"
                self._store.event("node", cause="expired, or forgiven", decision=words)
                lines.append(words)
        hit("nodes.committed")
        return lines

    def _tell_waiting(self, scheduler: Scheduler, lease_epoch: int) -> list[str]:
        """Tell waiting tasks the set; one that is refused is not asked again for the same set."""
        words = ",".join(self.excluded)
        values = {"scheduler": scheduler.name, "excluded": words}
        tasks = {
            TaskKey.of(row["token"], row["scheduler_id"], row["idx"], pack=row["pack"]): row["id"]
            for row in self._store.database.rows("tasks_to_exclude", values)
            if self._refused.get(row["id"]) != words
        }
        if not tasks:
            return []
        problems = scheduler.exclude(list(tasks), self.excluded)
        hit("nodes.told")
        with self._store.writing(lease_epoch):
            for key, task in tasks.items():
                if problems.get(key) is None:
                    self._store.set_excluded(task, words)
                    self._refused.pop(task, None)
                else:
                    self._refused[task] = words
        refused = sorted({problem for problem in problems.values() if problem})
        return [f"waiting tasks still may start on {words}: {refused[0]}"] if refused else []
