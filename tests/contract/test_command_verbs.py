"""A command job under the verbs, on the local scheduler."""

from __future__ import annotations

from pathlib import Path

from tests.contract.command_verbs import Desktop, preempt_edit_and_finish


def test_a_command_is_preempted_and_finishes_with_the_code_of_its_submission(
    tmp_path: Path,
) -> None:
    """`orch preempt` costs nothing, an edit meanwhile changes nothing, submitting it is new."""
    desk = Desktop(tmp_path, backend="local")

    preempt_edit_and_finish(desk)

    desk.orch("cancel", "--yes", desk.rows()[1]["id"])
    assert len(list((tmp_path / "orch" / "code").iterdir())) == 2
