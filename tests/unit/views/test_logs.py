"""Log bytes must reach the screen whole, harmless and in bounded memory."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.views.logs import LineSplitter, last_lines, new_lines


def all_lines(chunks: list[bytes]) -> list[str]:
    """Feed chunks one after the other and finish."""
    splitter = LineSplitter()
    shown = [line for chunk in chunks for line in splitter.feed(chunk)]
    return shown + splitter.finish()


def test_lines_are_complete_across_reads() -> None:
    """A line that was half written at one look must be shown once, whole."""
    assert all_lines([b"step 1\nste", b"p 2\n"]) == ["step 1", "step 2"]


def test_a_progress_bar_hides_nothing() -> None:
    """Text before a carriage return must stay visible: it could be the forged part."""
    assert all_lines([b"real\rfake\n"]) == ["real", "fake"]


def test_escapes_and_broken_utf8_are_harmless() -> None:
    """A worker's output must not retitle the terminal or break the decoding."""
    assert all_lines([b"\x1b]0;pwned\x07ok \xff\n"]) == ["ok \ufffd"]


def test_an_endless_line_is_shown_in_pieces() -> None:
    """A line without end must not be collected in memory."""
    splitter = LineSplitter()

    pieces = splitter.feed(b"x" * 200_000)

    assert sum(map(len, pieces)) + sum(map(len, splitter.finish())) == 200_000
    assert max(map(len, pieces)) <= 1 << 16


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_cutting_the_stream_elsewhere_changes_nothing(chunks: list[bytes]) -> None:
    """Where reads happen to end must not be visible, except inside a CR LF pair."""
    whole = b"".join(chunks)
    if b"\r" in whole:
        whole = whole.replace(b"\r", b"")
        chunks = [chunk.replace(b"\r", b"") for chunk in chunks]

    assert all_lines(chunks) == all_lines([whole])


def test_the_last_lines_and_then_the_new_ones() -> None:
    """--tail N -f: the last N lines, then exactly what is appended."""
    file = io.BytesIO(b"".join(b"line %d\n" % number for number in range(5000)))
    splitter = LineSplitter()

    assert list(last_lines(file, splitter, 2)) == ["line 4998", "line 4999"]

    end = file.tell()
    file.write(b"line 5000\n")
    file.seek(end)
    assert list(new_lines(file, splitter)) == ["line 5000"]
