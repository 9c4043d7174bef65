"""Waiting for what another process or thread does."""

import time


def wait_until(condition, *, timeout=30):
    """Return the condition's first true value; fail if there is none in `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{condition} did not hold within {timeout} s"
        time.sleep(0.02)
    return value
