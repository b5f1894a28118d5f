"""Names are allow-listed; any text can be shown; no name leaves its directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.names import (
    CELL_NAME,
    BadName,
    check_job_name,
    check_matrix_name,
    printable,
    safe_join,
    slug,
)


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "9", "x" * 64])
def test_plain_names_are_allowed(name: str) -> None:
    """What people call experiments."""
    assert check_matrix_name(name) == name
    assert check_job_name(f"{name}/lr=1e-5-seed=1") == f"{name}/lr=1e-5-seed=1"


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "-rf", ".hidden", "a b", "a/b", "a\n", "a\nb", "a%j", "$(x)", "é", "a;b"],
)  # fmt: skip
def test_others_are_refused(name: str) -> None:
    """Among them all that a shell, a path or an #SBATCH line would read otherwise."""
    with pytest.raises(BadName):
        check_matrix_name(name)


@pytest.mark.parametrize("name", ["m/", "m/../x", "m/a/b", "m/a b", "m/=x", "/a", "m/" + "x" * 129])
def test_job_names_are_two_allowed_parts(name: str) -> None:
    """One slash, and nothing that could be a path."""
    with pytest.raises(BadName):
        check_job_name(name)


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_any_text_makes_a_part_of_a_name(text: str) -> None:
    """A value of an axis can be anything."""
    assert CELL_NAME.fullmatch("v=" + slug(text))


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_any_text_can_be_shown_on_one_line(text: str) -> None:
    """No control character, separator or direction mark reaches a terminal."""
    shown = printable(text)

    assert len(shown) <= 60
    assert not set(shown) & set("\n\r\t\x1b\x00\x7f\x85\u2028\u202e\u2066")


@pytest.mark.parametrize("relative", ["../x", "a/../../x", "/etc", "a/\0b", ".."])
def test_no_words_lead_out_of_a_root(tmp_path: Path, relative: str) -> None:
    """Also not through directories that exist."""
    (tmp_path / "root" / "a").mkdir(parents=True)

    assert safe_join(tmp_path / "root", relative) is None


def test_no_symlink_leads_out_of_a_root(tmp_path: Path) -> None:
    """A mirror holds what it holds."""
    root = tmp_path / "root"
    (root / "inside").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)

    assert safe_join(root, "out/other") is None
    assert safe_join(root, "inside") == root / "inside"
