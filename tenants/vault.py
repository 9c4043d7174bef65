"""Secrets at rest: encrypted with SECRET_KEY, readable with its former values too."""

import base64
import functools

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class Unreadable(Exception):
    """SECRET_KEY was replaced without keeping the former one in SECRET_KEY_FALLBACKS."""


def encrypt(secret: bytes) -> bytes:
    return _vault().encrypt(secret)


def decrypt(encrypted: bytes) -> bytes:
    """Return what was encrypted, or raise `Unreadable`."""
    try:
        return _vault().decrypt(encrypted)
    except InvalidToken as error:
        raise Unreadable from error


def renew(encrypted: bytes) -> bytes:
    """The same secret, encrypted with SECRET_KEY as it is now; or `Unreadable`."""
    return encrypt(decrypt(encrypted))


def _vault() -> MultiFernet:
    return MultiFernet(
        [Fernet(_fernet_key(key)) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    )


@functools.cache
def _fernet_key(secret: str) -> bytes:
    derived = HKDF(hashes.SHA256(), length=32, salt=None, info=b"allegro secrets at rest")
    return base64.urlsafe_b64encode(derived.derive(secret.encode()))
