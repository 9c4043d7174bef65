import argparse
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants import rotation, signing

LONGEST = timedelta(days=30)
JWKS_SECONDS = round(signing.JWKS_LIFETIME.total_seconds())


def seconds(text: str) -> timedelta:
    try:
        overlap = timedelta(seconds=int(text))
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds.") from error
    if not timedelta(0) <= overlap <= LONGEST:
        raise argparse.ArgumentTypeError(f"Write 0 to {LONGEST.total_seconds():.0f} seconds.")
    return overlap


class Command(BaseCommand):
    help = "Replace the key that signs member tokens, without signing anybody out."

    def add_arguments(self, parser: CommandParser) -> None:
        when = parser.add_mutually_exclusive_group()
        when.add_argument(
            "--overlap",
            type=seconds,
            default=signing.JWKS_LIFETIME,
            metavar="SECONDS",
            help="how long the new key is published before it signs; at least as long as others "
            f"keep their copy of the key set (default: {JWKS_SECONDS})",
        )
        when.add_argument(
            "--now",
            action="store_true",
            help="for a leaked key: refuse the old one from this moment on",
        )

    def handle(self, *, overlap: timedelta, now: bool, **options: Any) -> None:
        try:
            done = (
                rotation.replace_signing_key_now() if now else rotation.rotate_signing_key(overlap)
            )
        except rotation.RotationUnderWay as error:
            raise CommandError(
                f"The last rotation is under way until {moment(error.over_at)}. Wait for it, or "
                "end it with --now if a key has leaked."
            ) from error
        self.stdout.write(
            f"Key {done.new.kid} is published and signs from {moment(done.new.active_from)}."
        )
        for key in done.old:
            assert key.retired_at is not None
            self.stdout.write(f"Key {key.kid} is accepted until {moment(key.retired_at)}.")
        if now and done.old:
            self.stdout.write(
                "Signed-in browsers fetch a new token by themselves. Other servers may accept the "
                f"old key for another {JWKS_SECONDS} seconds, until they read the key set again."
            )


def moment(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
