"""The JSON documents are a promise to scripts: field names, purity, completeness."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from jobs.states import JobState
from orchestrator.ledger import Account, Ledger
from orchestrator.rows import JobRow, Plan, ResultRow, SubmitReport, Watcher
from orchestrator.views import documents
from tests.unit.views.made_up import job, result

S = JobState
LEDGER = Ledger(total=Account(useful=60.0, wasted=20.0), eligible=80.0, lost=4.0, replayed_steps=7)
WATCHER = Watcher(alive=True, host="h", pid=1, last_tick=2.0)


def test_status_has_the_promised_fields() -> None:
    """schema_version, watcher and one entry a job with every documented field."""
    document = json.loads(documents.encode(documents.status_document([job(1)], WATCHER)))

    assert document["schema_version"] == 1
    watcher = {"alive": True, "host": "h", "pid": 1, "last_tick": 2.0, "job": None}
    assert document["watcher"] == watcher
    assert {
        "id", "name", "state", "step", "total_steps", "epoch", "attempts", "preemptions",
        "scheduler_id", "reason",
    } <= set(document["jobs"][0])  # fmt: skip


@pytest.mark.parametrize("row", [JobRow, ResultRow])
def test_no_field_of_a_row_is_forgotten(row: type[JobRow] | type[ResultRow]) -> None:
    """What the service tells must reach scripts: the document has every field of the row."""
    fields = {field.name for field in dataclasses.fields(row)}
    if row is JobRow:
        entry = documents.status_document([job(1)], WATCHER)["jobs"][0]
        assert entry.pop("goodput") is None  # of no row: it comes from the ledger
    else:
        entry = documents.results_document([result(1)])["jobs"][0]

    assert fields == set(entry)


def test_ten_thousand_jobs_are_all_in_the_document() -> None:
    """The cap is for screens; JSON is complete."""
    rows = [job(n, JobState.QUEUED) for n in range(10_000)]

    document = documents.status_document(rows, WATCHER)

    assert len(document["jobs"]) == 10_000
    assert document["counts"] == {"QUEUED": 10_000}


def test_values_that_json_does_not_know_become_null() -> None:
    """A diverged loss must not make the document unreadable for other languages."""
    row = job(1, loss=math.nan)
    bad = result(1, metrics={"test": {"loss": math.inf}})

    assert '"loss": null' in documents.encode(documents.status_document([row], WATCHER))
    assert '{"loss": null}' in documents.encode(documents.results_document([bad]))


def test_hostile_text_is_escaped_and_not_lost() -> None:
    """Scripts get the true value; a terminal that prints the document gets only ASCII."""
    text = documents.encode(
        documents.status_document([job(1, reason="\x1b[31m\u202eevil")], WATCHER)
    )

    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["jobs"][0]["reason"] == "\x1b[31m\u202eevil"


def test_a_plan_has_the_promised_fields() -> None:
    """submit --dry-run --json → cells, unique_jobs, new, unchanged, jobs."""
    plan = Plan(cells=4, unique_jobs=3, new=1, unchanged=2, jobs=())

    document = documents.plan_document(plan)

    assert document["dry_run"] is True
    assert [document[key] for key in ("cells", "unique_jobs", "new", "unchanged", "jobs")] == [
        4, 3, 1, 2, [],
    ]  # fmt: skip


def test_a_submission_says_what_the_scheduler_said() -> None:
    """Accepted, waiting and refused must be told apart."""
    plan = Plan(cells=2, unique_jobs=2, new=2, unchanged=0, jobs=())
    report = SubmitReport(plan=plan, submitted=1, waiting=0, refused=("QOS limit",))

    document = documents.submit_document(report, watcher=WATCHER)

    assert (document["submitted"], document["refused"]) == (1, ["QOS limit"])
    assert document["watcher"]["alive"] is True


def test_an_error_document_says_what_and_how_to_fix_it() -> None:
    """A script must be able to branch on kind and exit code, and to show message and fix."""
    document = documents.error_document(
        kind="locked", message="held by h:7", exit_code=5, fix="wait"
    )

    assert document["error"] == {
        "kind": "locked",
        "message": "held by h:7",
        "fix": "wait",
        "exit_code": 5,
        "problems": [],
    }


@pytest.mark.parametrize("number", [0, 1, 499, 500, 501, 1200])
def test_a_document_in_pieces_is_the_same_document(number: int) -> None:
    """Huge stores are encoded piece by piece; nobody can tell."""
    rows = [job(n, S.FAILED if n % 3 else S.QUEUED) for n in range(number)]
    some = {row.id: LEDGER for row in rows[::7]}

    text = b"".join(documents.status_text(iter(rows), WATCHER, ledgers=some)).decode("ascii")

    assert text.endswith("\n")
    assert json.loads(text) == json.loads(
        documents.encode(documents.status_document(rows, WATCHER, ledgers=some))
    )


def test_what_time_went_into_stands_with_each_job_and_each_matrix() -> None:
    """A job that two matrices name counts in both and once in the total; others have null."""
    rows = [job(1), job(2, matrices=("quickstart", "other")), job(3, S.NEW)]

    document = documents.status_document(
        rows, WATCHER, ledgers={rows[0].id: LEDGER, rows[1].id: LEDGER}
    )

    one = document["jobs"][0]["goodput"]
    assert (one["useful"], one["wasted"], one["ettr"]) == (60.0, 20.0, 0.75)
    assert (one["lost"], one["replayed_steps"]) == (4.0, 7)
    assert document["jobs"][2]["goodput"] is None
    sums = document["goodput"]
    useful = {name: some["useful"] for name, some in sums["matrices"].items()}
    assert useful == {"quickstart": 120.0, "other": 60.0}
    assert (sums["total"]["useful"], sums["total"]["ettr"]) == (120.0, 0.75)
