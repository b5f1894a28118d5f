"""Packed cells on the local backend: one launch, and each cell an end of its own."""

from __future__ import annotations

from pathlib import Path

from tests.contract.packed_verbs import Pack, claims, metrics


def test_each_cell_of_a_pack_ends_by_itself(tmp_path: Path) -> None:
    """One is preempted and goes on beside its neighbours, one fails, one is held, one cancelled.

    All run at the same time in one task of one submission; what happens to one is no attempt of
    another. The held one, released, is handed over by itself while its old allocation lives.
    """
    pack = Pack(tmp_path, backend="local", cells=4)
    pack.submit()
    rows = pack.all_at_five()
    assert len({row["scheduler_id"] for row in rows}) == 1
    (handed,) = pack.tasks()
    assert (handed.pack, handed.allocations()) == (4, (0,))

    pack.orch("preempt", rows[0]["id"])
    pack.orch("hold", rows[2]["id"])
    pack.orch("cancel", "--yes", rows[3]["id"])
    pack.let_go("fail-2", 2)
    rows = pack.wait(
        lambda rows: (
            [row["state"] for row in rows] == ["RUNNING", "FAILED", "HELD", "CANCELLED"]
            and rows[0]["step"] == 6
        ),
        "four fates",
    )
    pack.orch("release", rows[2]["id"])
    pack.let_go(1, 3)
    rows = pack.wait(lambda rows: [r["state"] for r in rows].count("COMPLETED") == 2, "results")

    assert [row["attempts"] for row in rows] == [2, 1, 2, 1]
    jobs = [pack.job(row["id"]) for row in rows]
    assert [metrics(jobs[n])["seed"] for n in (0, 2)] == [1.0, 3.0]
    tokens = [[claim.token for claim in claims(job)] for job in jobs]
    assert {*tokens[0], *tokens[1], tokens[2][0], *tokens[3]} == {handed.token}
    assert tokens[2][1] != handed.token
    assert [len(task.tasks) for task in pack.tasks()] == [4, 1]
    assert "as asked" in pack.orch("logs", rows[1]["id"])
