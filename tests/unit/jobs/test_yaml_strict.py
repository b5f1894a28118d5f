"""The strict reader: YAML 1.2 scalars, nothing that runs, grows or means two things."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import MatrixInvalid, Problem
from jobs.yaml_strict import MAX_DEPTH, Mark, parse_yaml


def read(text: str) -> Any:
    """Return the data of a YAML text."""
    return parse_yaml(text.encode(), file="m.yaml").data


def refused(text: str | bytes) -> list[str]:
    """Return the problems of a text as `line:column message`."""
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(MatrixInvalid) as caught:
        parse_yaml(data, file="m.yaml")
    return [f"{p.line}:{p.column} {p.message}" for p in caught.value.problems]


def problems_or_none(data: bytes) -> tuple[Problem, ...] | None:
    """Return what is wrong with the bytes, None when nothing is; another exception escapes."""
    try:
        parse_yaml(data, file="m.yaml")
    except MatrixInvalid as error:
        return error.problems
    return None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("5e-5", 5e-5), ("1E3", 1000.0), ("1e3", 1000.0), ("-2.5E+2", -250.0),
        (".5", 0.5), ("5.", 5.0), ("3.10", 3.1), ("0", 0), ("-7", -7), ("+7", 7),
        ("0x1F", 31), ("0o17", 15), ("true", True), ("False", False), ("null", None), ("~", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("NO", "NO"),
        ("12:30:00", "12:30:00"), ("1:20", "1:20"), ("1_000", "1_000"),
        ("2026-11-22", "2026-11-22"),
        ("0b11", "0b11"), ("=", "="), ("1e", "1e"), ("e5", "e5"), ("1.2.3", "1.2.3"),
        ("infinity", "infinity"),
        ('"1e-4"', "1e-4"), ("'true'", "true"), ("'~'", "~"),
    ],
)  # fmt: skip
def test_words_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    """Among them all that PyYAML alone reads otherwise."""
    got = read(f"a: {text}")["a"]

    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize("key", ["on", "yes", "null", "1", "true", "1e3", "~"])
def test_keys_are_words(key: str) -> None:
    """A key `on` is not true, a key `1` is not a number."""
    assert read(f"{key}: x") == {key: "x"}


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("a: 010", "octal"),
        ("a: -007", "octal"),
        ("a: .nan", "not a finite number"),
        ("a: -.INF", "not a finite number"),
        ("a: 1e400", "too large"),
        ("a: 9223372036854775808", "64 bits"),
        ("a: " + "9" * 100_000, "64 bits"),
        ("a: 0x" + "f" * 100_000, "64 bits"),
        ("a: !!int 3", "tag"),
        ("a: !x y", "tag"),
        ("!!map {a: 1}", "tag"),
        ("a: &x 1", "anchor"),
        ("a: &x [1]", "anchor"),
        ("a: *x", "alias"),
        ("*x : 1", "alias"),
        ("<<: {a: 1}", "merge key"),
        ("a: {<<: [{b: 1}]}", "merge key"),
        ("? {a: 1}\n: 2", "as a key"),
        ("? [[a], {b: c}]\n: 2\nd: 3", "as a key"),
        ("a: 1\nb: 2\na: 3", "duplicate key `a`, first on line 1"),
        ("a: 1\n'a': 3", "duplicate key"),
        ("{a: {b: 1, b: 2}}", "duplicate key `b`"),
        ('a: "\\0"', "control character"),
        ('a: "\\x1b[2J"', "control character"),
        ('a: "\\u202e"', "control character"),
        ('"a\\nb": 1', "key"),
        ("a: [1, 2", "not YAML"),
        ("a: b: c", "not YAML"),
        ("--- \na: 1\n---\nb: 1", "second document"),
        ("%TAG ! tag:x,2000:\n---\na: !y 1", "directive"),
        ("a: \x07", "control character"),
        ("a: \x85", "control character"),
        ("a: \u2028", "control character"),
        (b"a: \xff\xfe", "not UTF-8"),
        ("a: 1".encode("utf-16"), "not UTF-8"),
    ],
)  # fmt: skip
def test_what_could_mean_two_things_is_refused(text: str | bytes, fragment: str) -> None:
    """Refused with a place, never repaired silently."""
    assert any(fragment in problem for problem in refused(text))


def test_every_problem_of_a_file_is_found_in_one_reading() -> None:
    """A person repairs a file once."""
    problems = refused("a: 010\nb: !!str x\nc: 1\nc: 2\nd: &e 1\nf: .inf\n")

    assert [problem.split()[0] for problem in problems] == ["1:4", "2:4", "4:1", "5:4", "6:4"]


def test_an_alias_bomb_is_named_once_per_anchor() -> None:
    """Nine anchors with 81 aliases are nine problems."""
    rows = "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert len(refused("a: &a [x]\n" + rows)) == 9


def test_depth_is_limited_without_recursion() -> None:
    """Also a megabyte of brackets ends in a problem, not in a RecursionError."""
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert "nested deeper" in refused("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))[0]
    assert "nested deeper" in refused("[" * 500_000)[0]
    assert "nested deeper" in refused("? " * 200_000)[-1]


def test_marks_point_at_keys_and_values() -> None:
    """Lines and columns count from 1; lists and nested mappings have theirs."""
    document = parse_yaml(b"\xef\xbb\xbfa:\n  b: [1, {c: x}]\nd: |\n  text\n", file="m.yaml")

    assert document.keys[("a",)] == Mark(1, 1)
    assert document.values[("a", "b")] == Mark(2, 6)
    assert document.values[("a", "b", 0)] == Mark(2, 7)
    assert document.keys[("a", "b", 1, "c")] == Mark(2, 11)
    assert document.values[("a", "b", 1, "c")] == Mark(2, 14)
    assert document.place(("a", "b", 7)) == Mark(2, 6)  # the nearest parent that exists
    assert document.data == {"a": {"b": [1, {"c": "x"}]}, "d": "text\n"}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null"])
def test_nothing_is_none(text: str) -> None:
    """An empty file is no mapping; the matrix says so."""
    assert read(text) is None


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(PLAIN)
def test_json_is_read_as_json(value: object) -> None:
    """YAML 1.2 contains JSON: what was written is what is read, to the last bit."""
    assert read(json.dumps(value, ensure_ascii=False)) == value


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60) | st.text("{}[]:,-?&*!|>'\"%@`#\n\t ab<1e.~", max_size=40))
def test_any_text_is_data_or_problems(text: str) -> None:
    """No input makes the reader fail in another way."""
    data = text.encode("utf-8", errors="surrogatepass")
    problems = problems_or_none(data)

    assert problems is None or all(p.line >= 1 and p.column >= 1 and p.fix for p in problems)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60))
def test_any_bytes_are_data_or_problems(data: bytes) -> None:
    """Also what is no text."""
    assert problems_or_none(data) != ()


@settings(deadline=None, max_examples=60)
@given(
    st.from_regex(
        r"[-+]?(\.[0-9]{1,4}|[0-9]{1,4}(\.[0-9]{0,4})?)([eE][-+]?[0-9]{1,2})?", fullmatch=True
    )
)
def test_numbers_have_the_value_that_python_gives_them(text: str) -> None:
    """Whatever spelling PyYAML 1.1 would have called a string."""
    try:
        value = read(f"a: {text}")["a"]
    except MatrixInvalid:
        assert text.lstrip("+-").startswith("0")  # a leading zero
    else:
        assert math.isclose(value, float(text), rel_tol=0, abs_tol=0)


def test_pyyaml_still_needs_this_reader() -> None:
    """Why the reader exists; if this fails, PyYAML has changed."""
    assert yaml.safe_load("[1e-4, on, 010, 12:30:00]") == ["1e-4", True, 8, 45000]
