"""`manage.py worker` as a real process, working on the current test database."""

import sys
import tempfile
from contextlib import contextmanager

from django.db import connection

from tests.processes import START_TIMEOUT, Process
from tests.waiting import wait_until


class WorkerProcess(Process):
    def __init__(self, env, log):
        super().__init__([sys.executable, "manage.py", "worker"], env, log)

    def wait_until_running(self):
        running = f":{self.pid} is running"
        wait_until(lambda: running in self.log(), timeout=START_TIMEOUT)


@contextmanager
def running_worker(env=None):
    """A worker on the test database; needs the `transactional_db` fixture to see its rows."""
    with tempfile.NamedTemporaryFile(prefix="allegro-worker-") as log:
        worker = WorkerProcess(env, log)
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
