"""The production server as a real process, working on the current test database."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from django.db import connection

START_TIMEOUT = 30
STOP_TIMEOUT = 40


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    body: bytes


class Server:
    """A gunicorn master and its workers, in a process group of their own."""

    def __init__(self, port, *, workers, threads, environ, log):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._environ = environ
        self._command = [
            *(sys.executable, "-m", "gunicorn", "allegro.wsgi:application"),
            *("-k", "gthread", "--workers", str(workers), "--threads", str(threads)),
            *("--bind", f"127.0.0.1:{port}", "--preload", "--no-control-socket"),
        ]

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        self._process = subprocess.Popen(
            self._command,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._wait_until_it_answers()

    def stop(self):
        """End it as a deployment does: requests under way are finished first."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(STOP_TIMEOUT)

    def kill(self):
        """End master and workers at once, as a power cut would."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def restart(self):
        self.stop()
        self.start()

    def log(self):
        return Path(self._log.name).read_text()

    def _wait_until_it_answers(self):
        deadline = time.monotonic() + START_TIMEOUT
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                return request("GET", f"{self.url}/.well-known/openid-configuration")
            except ConnectionError:
                time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"The server did not start.\n{self.log()}")


@contextmanager
def running_server(*, workers=2, threads=4, env=None):
    """Serve the test database; needs the `transactional_db` fixture to see its rows."""
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "allegro.settings",
        "DATABASE_URL": database_url(connection.settings_dict),
        **(env or {}),
    }
    with tempfile.NamedTemporaryFile(prefix="allegro-server-") as log:
        server = Server(free_port(), workers=workers, threads=threads, environ=environ, log=log)
        server.start()
        try:
            yield server
            server.stop()
        finally:
            server.kill()


def database_url(database):
    if database["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{database['NAME']}"
    user, password, host = (quote(database[key], safe="") for key in ("USER", "PASSWORD", "HOST"))
    return f"postgres://{user}:{password}@{host}:{database['PORT'] or 5432}/{database['NAME']}"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def post(url, body, headers=None):
    return request("POST", url, body, headers)


def request(method, url, body=None, headers=None, *, timeout=START_TIMEOUT):
    """Return the answer whatever its status; raise only where there is none."""
    address = urlsplit(url)
    client = http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)
    try:
        target = url.removeprefix(f"{address.scheme}://{address.netloc}") or "/"
        client.request(method, target, body, headers or {})
        response = client.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        client.close()
