"""What can go wrong with a private cluster, in words for people."""

from __future__ import annotations


class ClusterError(Exception):
    """The private cluster cannot be started, asked or stopped; the message says what to do."""
