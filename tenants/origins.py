"""Web origins (RFC 6454), written the one way in which a browser writes them."""

import re
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError

# Only what RFC 3986 allows in a URI. A browser repairs much of the rest (it drops tabs, and reads
# a backslash as a slash), so that it would go elsewhere than the parser here says.
URI = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,2000}")
# The host (letters, digits and hyphens, or an IPv6 address: an international name comes as
# xn--…), and after it nothing but a port.
AUTHORITY = re.compile(r"([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]*)?")
DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> str | None:
    """The origin of an http(s) URL, or None for anything that two readers could read apart."""
    if not URI.fullmatch(url) or "://" not in url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    authority = AUTHORITY.fullmatch(parts.netloc.lower())
    if parts.scheme not in DEFAULT_PORTS or authority is None:
        return None
    return f"{parts.scheme}://{authority[1]}" + (
        "" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}"
    )


def validate_origins(origins: object) -> None:
    """Accept a list of exact origins; the message says how to write the one that is not."""
    if not isinstance(origins, list):
        raise ValidationError('Write a list, such as ["https://shop.example"].')
    for origin in origins:
        if not isinstance(origin, str) or origin_of(origin) != origin:
            meant = origin_of(origin) if isinstance(origin, str) else None
            hint = f"; did you mean {meant}?" if meant else ", such as https://shop.example."
            raise ValidationError(f"{origin!r} is no origin{hint}")
