"""Who killed a local task with SIGKILL: the kernel for want of memory, or somebody. Pure.

The kernel's own counter tells (`durable.oom_counter`). Where it cannot be read, both are possible,
and that is said; only what is known to be a want of memory counts as one.
"""

from __future__ import annotations

from collections.abc import Sequence


def killer_words(who: str, oom_kills: int | None) -> str:
    """Return a sentence about `who` got SIGKILL, given the kernel's count (None: unknown)."""
    if oom_kills is None:
        return f"{who} killed (out of memory or by somebody)"
    if oom_kills == 0:
        return f"{who} killed by somebody: the kernel's oom_kill counter stands still"
    return f"{who} killed by the kernel: out of memory (oom_kill +{oom_kills})"


def ranks_words(ranks: Sequence[int]) -> str:
    """Return the subject of a sentence about ranks."""
    if len(ranks) == 1:
        return f"rank {ranks[0]} was"
    return f"ranks {', '.join(map(str, ranks))} were"
