"""Waiting for what another process or thread does."""

import time


def wait_until(condition, *, timeout=15):
    """Return once the condition holds; fail if it does not in `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not hold within {timeout} s"
        time.sleep(0.02)
