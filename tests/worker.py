"""`manage.py worker` as a real process, working on the current test database."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from tests.server import START_TIMEOUT, STOP_TIMEOUT, database_url
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent


class WorkerProcess:
    """A worker in a process group of its own."""

    def __init__(self, environ, log):
        self._environ = environ
        self._log = log

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", "worker"],
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def wait_until_running(self):
        running = f":{self.pid} is running"
        wait_until(lambda: running in self.log(), timeout=START_TIMEOUT)

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


@contextmanager
def running_worker(env=None):
    """A worker on the test database; needs the `transactional_db` fixture to see its rows."""
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "allegro.settings",
        "DATABASE_URL": database_url(connection.settings_dict),
        **(env or {}),
    }
    with tempfile.NamedTemporaryFile(prefix="allegro-worker-") as log:
        worker = WorkerProcess(environ, log)
        worker.start()
        try:
            worker.wait_until_running()
            yield worker
        finally:
            worker.kill()


def in_own_connection(call):
    """The call as a thread may make it: what it opens to the database, it closes."""

    def make():
        try:
            return call()
        finally:
            connection.close()

    return make
