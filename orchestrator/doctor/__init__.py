"""`orch doctor`: what is installed, which backend would be used, is the state directory sane.

Looks only: nothing is created but probe files that vanish, no package is imported to learn its
version, and no job is touched.
"""

from __future__ import annotations

from orchestrator.doctor.check import Check, Level
from orchestrator.doctor.examination import examine

__all__ = ["Check", "Level", "examine"]
