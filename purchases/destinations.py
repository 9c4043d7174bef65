"""Where a tenant may have us send something: HTTPS URLs of hosts on the public Internet.

`NOTIFICATIONS_ALLOW_PRIVATE` lifts the rules about scheme and address, for development.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

PORTS = {"https": 443, "http": 80}

UNSAFE = re.compile(r"[\x00-\x20\x7f\\#]|\s")
UNICAST_IPV6 = ipaddress.ip_network("2000::/3")
# What `is_global` lets pass and yet is no public host: protocol assignments, 6to4 and its relays,
# Teredo, documentation, and the number under which Azure's hosts reach their own control plane.
NOT_HOSTS = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "2001::/23", "2002::/16", "3fff::/20",
    )
]  # fmt: skip


class UnacceptableUrl(ValueError):
    """The URL is none that we would call; the text tells its owner why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A URL, read once: what is checked is what is connected to."""

    scheme: str
    host: str
    port: int
    path: str


def destination_of(url: str) -> Destination:
    """Read the URL, or raise `UnacceptableUrl`. No name is looked up here."""
    if UNSAFE.search(url):
        raise UnacceptableUrl("Leave out spaces, backslashes, control characters and #fragments.")
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode().removesuffix(".")
        port = PORTS.get(parts.scheme) if parts.port is None else parts.port
        path = f"{parts.path or '/'}?{parts.query}".removesuffix("?").encode("ascii").decode()
    except ValueError as error:
        raise UnacceptableUrl("This is no URL; write one such as https://example.com/x.") from error
    if "@" in parts.netloc:
        raise UnacceptableUrl("Leave the user name and password out: we send none.")
    if parts.scheme not in _schemes():
        raise UnacceptableUrl("The URL must begin with https://.")
    if not host or not port:
        raise UnacceptableUrl("The URL must name a host, and a port other than 0 if any.")
    if not settings.NOTIFICATIONS_ALLOW_PRIVATE:
        _refuse_private_host(host)
    return Destination(scheme=parts.scheme, host=host, port=port, path=path)


def _schemes() -> list[str]:
    return ["https", "http"] if settings.NOTIFICATIONS_ALLOW_PRIVATE else ["https"]


def _refuse_private_host(host: str) -> None:
    try:
        # Takes each spelling that a connection would: 127.1, 0x7f000001, 2130706433, [::1].
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        if "." not in host:
            raise UnacceptableUrl("The host must be a full name on the public Internet.") from None
        return
    if not all(is_public(str(address[0])) for *_, address in found):
        raise UnacceptableUrl("The host must have an address on the public Internet.")


def is_public(address: str) -> bool:
    """Whether the address is that of a host on the public Internet.

    In IPv6 only global unicast counts (RFC 4291 §2.4), which leaves out all forms that hold an
    IPv4 address: mapped, compatible and NAT64.
    """
    ip = ipaddress.ip_address(address)
    if ip.version == 6 and ip not in UNICAST_IPV6:
        return False
    if ip.is_multicast or ip.is_reserved or not ip.is_global:
        return False
    return not any(ip in network for network in NOT_HOSTS)
