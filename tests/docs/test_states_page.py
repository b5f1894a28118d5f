"""docs/states.md is drawn from the transitions that the code checks."""

from __future__ import annotations

from pathlib import Path

from jobs.states import TERMINAL, TRANSITIONS

PAGE = Path(__file__).parent.parent.parent / "docs" / "states.md"


def drawn() -> str:
    """Return the state diagram, in Mermaid's words."""
    lines = ["stateDiagram-v2", "    [*] --> NEW"]
    for old, news in TRANSITIONS.items():
        lines += [f"    {old} --> {new}" for new in sorted(news)]
    lines += [f"    {state} --> [*]" for state in sorted(TERMINAL)]
    return "\n".join(lines)


def test_the_page_shows_exactly_the_transitions_of_the_code() -> None:
    """A reader of the page must not be told of a transition that the database would refuse."""
    assert drawn() in PAGE.read_text()


def test_every_state_is_explained() -> None:
    """Each state has a row that says what it means."""
    page = PAGE.read_text()

    assert all(f"| {state} |" in page for state in TRANSITIONS)
