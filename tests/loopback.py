"""What of this machine's loopback interface there is, for tests that listen on it."""

from __future__ import annotations

import socket


def has_ipv6_loopback() -> bool:
    """Whether this machine has ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
