"""Words and numbers for people; every string from outside passes `clean` before display.

Names, reasons and log lines come from files and schedulers. A terminal obeys escape
sequences and a reader is deceived by bidi overrides, so neither reaches the screen (P11).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

# Whole sequences first, so that "\x1b[31mred" becomes "red" and not "[31mred". An OSC without
# its terminator loses only its ESC: swallowing the rest of the line would let it hide text.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS …
    r"|\x1b[ -/]*[0-Z\\^-~]"  # two-character escapes
)
_JOINERS = frozenset("\u200c\u200d")  # spelling of several scripts and of emoji needs them
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_DIGEST_PREFIX = 12
SHORT_ID = 8


@lru_cache(maxsize=4096)
def _shown(character: str) -> str:
    if character in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    if character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return ""


def clean(value: str) -> str:
    """Return `value` as one line without control, escape and bidi characters."""
    if value.isascii() and value.isprintable():
        return value
    return "".join(map(_shown, _SEQUENCES.sub("", value)))


def clean_line(value: str) -> str:
    """Return one log line for display: like `clean`, but tabs stay."""
    return "\t".join(clean(part) for part in value.split("\t"))


def duration(seconds: float) -> str:
    """Return a length of time in the two largest units, e.g. `45 s`, `3 min`, `2 h 10 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    if whole < 86_400:
        hours, rest = divmod(whole // 60, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, rest = divmod(whole // 3600, 24)
    return f"{days} d {rest} h" if rest else f"{days} d"


def ago(seconds: float) -> str:
    """Return the age of something, e.g. `3 s ago`; clocks that disagree give `just now`."""
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a counted noun, e.g. `1 job`, `10,000 jobs`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def number(value: float | None) -> str:
    """Return a measured value with four significant digits; empty for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e7 else f"{value:,.0f}"


def axis_value(value: object) -> str:
    """Return a matrix value as a person would write it in YAML."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return clean(str(value))


def digest_prefix(digest: str | None) -> str:
    """Return the first digits of an `alg:hex` digest, enough for people to compare."""
    if digest is None:
        return ""
    return clean(digest.rpartition(":")[2][:_DIGEST_PREFIX])


def short_id(job_id: str) -> str:
    """Return the first digits of a job id; every verb accepts them as a selector."""
    return job_id[:SHORT_ID]


def shared_prefix(names: Iterable[str]) -> str:
    """Return `matrix/` where all names begin with it and something follows, else nothing."""
    prefixes = {name.partition("/")[0] if "/" in name else "" for name in names}
    return f"{prefixes.pop()}/" if len(prefixes) == 1 and "" not in prefixes else ""


def attempts(total: int, preemptions: int) -> str:
    """Return attempts and how many of them were preempted, e.g. `3 (2 preempted)`."""
    return f"{total} ({preemptions} preempted)" if preemptions else str(total)
