"""The product's processes, as they run in production, on the current test database."""

import os
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

from django.db import connection

ROOT = Path(__file__).parent.parent
START_TIMEOUT = 30
STOP_TIMEOUT = 40


class Process:
    """A process in a group of its own, with those that it starts."""

    def __init__(self, command, env, log):
        self._command = command
        self._environ = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "allegro.settings",
            "DATABASE_URL": database_url(connection.settings_dict),
            **(env or {}),
        }
        self._log = log

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def stop(self):
        """End it as a deployment does; returns its exit status."""
        self._process.terminate()
        return self._process.wait(STOP_TIMEOUT)

    def kill(self):
        """End it at once, as a power cut would."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def log(self):
        return Path(self._log.name).read_text()


def database_url(database):
    if database["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{database['NAME']}"
    user, password, host = (quote(database[key], safe="") for key in ("USER", "PASSWORD", "HOST"))
    return f"postgres://{user}:{password}@{host}:{database['PORT'] or 5432}/{database['NAME']}"
