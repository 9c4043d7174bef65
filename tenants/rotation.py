"""Replacing the key that signs member tokens, in step with those who verify them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from tenants import signing
from tenants.models import SigningKey
from tenants.tokens import JWT_LIFETIME

# For clocks that differ and for a token that was being signed as its key was replaced.
MARGIN = timedelta(minutes=1)


class RotationUnderWay(Exception):
    """A key waits to sign, or one waits to be retired, until the moment in `over_at` (UTC)."""

    def __init__(self, over_at: datetime) -> None:
        super().__init__(over_at)
        self.over_at = over_at


@dataclass(frozen=True, slots=True)
class Rotation:
    """`new` signs from its `active_from` on; `old` are accepted until their `retired_at`."""

    new: SigningKey
    old: list[SigningKey]


def rotate_signing_key(overlap: timedelta) -> Rotation:
    """Publish a key that signs after the overlap, when all copies of the key set have it.

    The keys before it are accepted until the last token that they signed has expired. Raises
    `RotationUnderWay`.
    """
    now = timezone.now()
    # A first key has nobody to wait for.
    starts_at = now + overlap if signing.accepted_keys().exists() else now
    new = signing.new_signing_key(active_from=starts_at)
    with transaction.atomic():
        old = _locked_keys()
        if pending := [
            moment for key in old if (moment := key.retired_at or key.active_from) > now
        ]:
            raise RotationUnderWay(max(pending))
        return _replace(old, new, retired_at=starts_at + JWT_LIFETIME + MARGIN)


def replace_signing_key_now() -> Rotation:
    """Sign with a new key and refuse all others at once, for a key that somebody else has."""
    new = signing.new_signing_key(active_from=timezone.now())
    with transaction.atomic():
        return _replace(_locked_keys(), new, retired_at=timezone.now())


def _locked_keys() -> list[SigningKey]:
    # Two steps: whoever waited for the lock still has to see what was added meanwhile.
    list(SigningKey.objects.select_for_update().order_by("kid"))
    return list(signing.published_keys())


def _replace(old: list[SigningKey], new: SigningKey, *, retired_at: datetime) -> Rotation:
    new.save(force_insert=True)
    for key in old:
        key.retired_at = retired_at
        key.save(update_fields=["retired_at"])
    return Rotation(new, old)
