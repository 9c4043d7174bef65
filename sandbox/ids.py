"""Identifiers that look like Stripe's."""

import secrets
import string
import time

ALPHABET = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    """A fresh identifier, such as `pi_3…`; the prefix may hold a fixed beginning."""
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(length))


def now() -> int:
    """Stripe counts whole seconds."""
    return int(time.time())
