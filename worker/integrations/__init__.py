"""For other people's programs. `orch_job` needs nothing but Python's standard library."""

from worker.integrations.alone.orch_job import Attempt, Fenced, Refused, orch_attempt

__all__ = ["Attempt", "Fenced", "Refused", "orch_attempt"]
