"""No test of the worker looks beyond this machine, as the worker itself never does."""

from __future__ import annotations

import os

# Read when the hub's client is first imported, so set before any test module is.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
