"""Whole prompts: what stands before an example's own text, as much of it as fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def whole_prompt(
    head: str, shown: Sequence[str], source: str, *, fits: Callable[[str], bool]
) -> str:
    """Return `head`, the first of `shown` that fit together, and `source`. Pure but for `fits`.

    What has no room without any of `shown` is cut later, as every prompt.
    """
    kept: list[str] = []
    for text in shown:
        if not fits(head + "".join([*kept, text]) + source):
            break
        kept.append(text)
    return head + "".join(kept) + source
