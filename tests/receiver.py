"""A tenant's server on loopback that notes what it is sent and answers as a test says."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.loopback import serving


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict
    body: bytes


class Receiver:
    """`answers` are `(status, headers)`, used up one by one; then it is `(200, {})`."""

    def __init__(self, url):
        self.url = url
        self.received = []
        self.answers = []
        # While clear, answers wait: for threads that have to meet.
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def ids(self):
        return [request.headers["webhook-id"] for request in self.received]


@contextmanager
def running_receiver(tls=None):
    """Listen on a port of its own, with TLS if a server's context is given."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.received.append(Received(self.path, dict(self.headers), body))
            status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
            receiver.may_answer.wait(30)
            self.send_response(status)
            for name, value in {"Content-Length": "2", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *arguments):
            """Say nothing."""

    class Listener(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            """Whoever breaks off is what some tests are about."""

        def finish_request(self, request, client_address):
            # In the connection's own thread, so that a broken handshake stops nobody else.
            if tls:
                request = tls.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)
            if tls:
                request.close()

    with serving(Handler, Listener) as listener:
        scheme = "https" if tls else "http"
        receiver = Receiver(f"{scheme}://127.0.0.1:{listener.server_port}/hook?from=allegro")
        try:
            yield receiver
        finally:
            receiver.may_answer.set()
