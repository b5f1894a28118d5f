"""Python's search for cyclic garbage, put off while very many objects come to life at once.

The collector looks at everything that is alive again and again while their number grows: at ten
thousand jobs that is a quarter of a tick, for garbage that is not there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector off inside; afterwards it does as before. Of the whole process."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
