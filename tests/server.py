"""The production server as a real process, working on the current test database."""

import http.client
import socket
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.processes import START_TIMEOUT, Process


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    body: bytes


class Server(Process):
    """A gunicorn master and its workers."""

    def __init__(self, port, env, log, *, workers, threads):
        super().__init__(
            [
                *(sys.executable, "-m", "gunicorn", "allegro.wsgi:application"),
                *("-k", "gthread", "--workers", str(workers), "--threads", str(threads)),
                *("--bind", f"127.0.0.1:{port}", "--preload", "--no-control-socket"),
            ],
            env,
            log,
        )
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def start(self):
        super().start()
        self._wait_until_it_answers()

    def restart(self):
        self.stop()
        self.start()

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
def running_server(*, port=None, workers=2, threads=4, env=None):
    """Serve the test database; needs the `transactional_db` fixture to see its rows."""
    with tempfile.NamedTemporaryFile(prefix="allegro-server-") as log:
        server = Server(port or free_port(), env, log, workers=workers, threads=threads)
        server.start()
        try:
            yield server
        finally:
            server.kill()


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
