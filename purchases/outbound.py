"""Requests to addresses that tenants chose: over HTTPS, to public hosts, and to nobody else.

The check stands where the connection is made: a name is looked up once, every address it has must
be public, and the connection goes to one of just these. So a name that changes its address between
check and use (DNS rebinding) leads nowhere. No proxy is used and no redirect is followed.
"""

import contextlib
import functools
import http.client
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from purchases.destinations import PORTS, Destination, UnacceptableUrl, destination_of, is_public

CONNECT_SECONDS = 5
TOTAL_SECONDS = 15
MAX_BODY = 64 * 1024
MAX_RETRY_AFTER = 24 * 60 * 60
# Of a host with many addresses, so that each gets a fair part of the time to connect.
MAX_ADDRESSES = 3


class NotPublic(OSError):
    """The host has an address that is not on the public Internet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The status that came back, or why none did. `retry_after` is in seconds, at most a day."""

    status: int | None = None
    retry_after: int = 0
    error: str = ""


def post(url: str, body: bytes, headers: dict[str, str]) -> Answer:
    """Send the body once, and within 15 s say what came of it. Never raises for the other side.

    Of the answer no more than its status and `Retry-After` is kept. Looking the name up takes as
    long as the system's resolver lets it.
    """
    try:
        connection = CheckedConnection(destination_of(url))
        with contextlib.closing(connection):
            return connection.exchange(body, headers)
    except (OSError, http.client.HTTPException, UnacceptableUrl) as error:
        return Answer(error=_reason(error)[:200])


class CheckedConnection(http.client.HTTPConnection):
    """A connection to the public addresses of the destination's host, or to none."""

    def __init__(self, destination: Destination) -> None:
        super().__init__(destination.host, destination.port)
        self.destination = destination
        # The Host header names a port only where it is another.
        self.default_port = PORTS[destination.scheme]

    def connect(self) -> None:
        self.sock: Any = _connect(self.destination)
        if self.destination.scheme == "https":
            self.sock = tls_context().wrap_socket(self.sock, server_hostname=self.destination.host)

    def exchange(self, body: bytes, headers: dict[str, str]) -> Answer:
        deadline = time.monotonic() + TOTAL_SECONDS
        self.connect()
        self.sock.settimeout(TOTAL_SECONDS)
        # The socket's own timeout begins anew with each byte that drips in.
        watchdog = threading.Timer(deadline - time.monotonic(), _cut, [self.sock])
        watchdog.start()
        try:
            self.request("POST", self.destination.path, body, {**headers, "Connection": "close"})
            with self.getresponse() as response:
                if time.monotonic() >= deadline:
                    # What was cut off reads like an answer that ends early.
                    raise TimeoutError
                # Read, so that the sender isn't cut off; the status stands in any case.
                with contextlib.suppress(OSError, http.client.HTTPException):
                    response.read(MAX_BODY)
                return Answer(status=response.status, retry_after=_retry_after(response))
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline:
                raise TimeoutError from error
            raise
        finally:
            watchdog.cancel()


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not the TLS socket's own method, which is not made for a second thread.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _connect(destination: Destination) -> socket.socket:
    addresses = _checked_addresses(destination)[:MAX_ADDRESSES]
    failures: list[OSError] = []
    for family, address in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(CONNECT_SECONDS / len(addresses))
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            failures.append(error)
        else:
            sock.settimeout(CONNECT_SECONDS)
            return sock
    raise failures[-1]


def _checked_addresses(destination: Destination) -> list[tuple[socket.AddressFamily, Any]]:
    found = socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
    # All of them: one private address among public ones is no accident.
    if not (
        settings.NOTIFICATIONS_ALLOW_PRIVATE
        or all(is_public(str(address[0])) for *_, address in found)
    ):
        raise NotPublic("The host has an address that is not on the public Internet.")
    return [(family, address) for family, *_, address in found]


@functools.cache
def tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _retry_after(response: http.client.HTTPResponse) -> int:
    value = response.headers.get("Retry-After", "")
    if not re.fullmatch(r"[0-9]{1,20}", value):
        return 0
    return min(int(value), MAX_RETRY_AFTER)


def _reason(error: Exception) -> str:
    match error:
        case NotPublic() | UnacceptableUrl():
            return str(error)
        case TimeoutError():
            return "There was no answer in time."
        case ssl.SSLCertVerificationError():
            return f"The certificate is not valid: {error.verify_message}."
        case socket.gaierror():
            return "The host name can't be resolved."
        case OSError():
            return f"The connection failed: {error.strerror or type(error).__name__}."
    return "What came back is no HTTP answer."
