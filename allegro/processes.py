"""Run a few commands as one: they start together and none outlives the others."""

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

GRACE_SECONDS = 10
PR_SET_PDEATHSIG = 1


def run_together(commands: Sequence[Sequence[str]]) -> int:
    """Run until one command ends or we are told to stop; then end the rest.

    Returns the exit status of the one that ended, 0 after Ctrl-C or SIGTERM.
    """
    # Both, since a shell starts what it runs in the background with SIGINT ignored.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    children: list[subprocess.Popen] = []
    try:
        children += [subprocess.Popen(command, preexec_fn=_die_with_parent) for command in commands]  # noqa: PLW1509, S603
        while all(child.poll() is None for child in children):
            time.sleep(0.2)
        return max(child.returncode or 0 for child in children) or 1
    except KeyboardInterrupt:
        return 0
    finally:
        _end(children)


def _die_with_parent() -> None:
    # Where the system can (Linux), a child also ends when we are killed outright.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(children: list[subprocess.Popen]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
