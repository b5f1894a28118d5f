"""Strings from outside must be harmless on a terminal; numbers must be readable."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.views import text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("quickstart-0001", "quickstart-0001"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07name", "name"),
        ("\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "click"),
        ("\x1b]0;never closed", "]0;never closed"),
        ("a\rb\nc\td", "a b c d"),
        ("safe\u202eexe.txt", "safeexe.txt"),
        ("\u2066isolate\u2069", "isolate"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("line\u2028two", "line two"),
        ("nul\x00bell\x07", "nulbell"),
        ("\x1bcreset", "reset"),
        ("\ud800lone", "lone"),
        ("Zoë 日本 👩‍💻", "Zoë 日本 👩‍💻"),
    ],
)
def test_escape_sequences_and_bidi_never_reach_the_terminal(raw: str, shown: str) -> None:
    """Each known way to hijack a terminal or to deceive a reader must be gone."""
    assert text.clean(raw) == shown


@given(st.text())
def test_no_text_at_all_keeps_a_control_character(raw: str) -> None:
    """Nothing that a terminal obeys may remain, and cleaning twice changes nothing."""
    shown = text.clean(raw)

    assert not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in shown
    )
    assert text.clean(shown) == shown


def test_a_log_line_keeps_its_tabs() -> None:
    """Tables in logs are made of tabs; everything else is cleaned as usual."""
    assert text.clean_line("a\tb\x1b[1m\tc\r") == "a\tb\tc "


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "0 s"),
        (-3, "0 s"),
        (59, "59 s"),
        (90, "1 min 30 s"),
        (1800, "30 min"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_use_two_units(seconds: float, shown: str) -> None:
    """A length of time must be readable at a glance; a negative one (clock skew) is zero."""
    assert text.duration(seconds) == shown


def test_counts_agree_with_their_noun() -> None:
    """One job, two jobs, ten thousand jobs with a separator."""
    assert [text.count(n, "job") for n in (0, 1, 2, 10_000)] == [
        "0 jobs",
        "1 job",
        "2 jobs",
        "10,000 jobs",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0.123456, "0.1235"), (1.0, "1"), (12345.6, "12,346"), (float("nan"), "nan")],
)
def test_numbers_have_four_significant_digits(value: float | None, shown: str) -> None:
    """A metric must fit a column and say nan where it is nan."""
    assert text.number(value) == shown


def test_preempted_attempts_are_told_apart() -> None:
    """Preemption is not failure: the attempts column must say how many were preempted."""
    assert text.attempts(3, 2) == "3 (2 preempted)"
    assert text.attempts(1, 0) == "1"


def test_digests_are_cut_after_the_algorithm() -> None:
    """The prefix must be of the hex digits, not of the word sha256."""
    assert text.digest_prefix("sha256:0123456789abcdef") == "0123456789ab"
    assert text.digest_prefix(None) == ""
