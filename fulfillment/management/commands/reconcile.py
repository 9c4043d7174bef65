import re
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from fulfillment.errors import NotConnected, StripeUnavailable
from fulfillment.reconciling import FURTHEST, Found, active_accounts, reconcile, why
from tenants.models import Tenant

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Command(BaseCommand):
    help = (
        "Compare the inbox with the events that Stripe has of the connected accounts and of the "
        "platform's own, and take in what never arrived. The worker does it every 15 minutes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since", default="24h", help="90m, 24h, 30d, or a time such as 2026-11-01T08:00Z"
        )
        parser.add_argument("--tenant", metavar="SLUG", help="only this tenant's account")
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(self, *, since: str, tenant: str | None, dry_run: bool, **options: Any) -> None:
        start, failed, found = _instant(since), 0, Found()
        for account_id in _accounts(tenant):
            name = account_id or "platform"
            try:
                of_account = reconcile(account_id, since=start, dry_run=dry_run)
            except (NotConnected, StripeUnavailable) as error:
                failed += 1
                self.stderr.write(f"{name}: {why(error)}")
                continue
            found += of_account
            self.stdout.write(f"{name}: {of_account.missing} of {of_account.seen} were missing")
        verb = "are" if dry_run else "were"
        self.stdout.write(f"{found.missing} of {found.seen} events {verb} missing.")
        if failed:
            raise CommandError(
                f"{failed} accounts could not be asked; what was missing there still is."
            )


def _accounts(slug: str | None) -> list[str]:
    accounts = active_accounts()
    if slug is None:
        return ["", *accounts.values_list("stripe_account_id", flat=True)]
    if not Tenant.objects.filter(slug=slug).exists():
        raise CommandError(f"There is no tenant {slug!r}.")
    found = list(accounts.filter(tenant__slug=slug).values_list("stripe_account_id", flat=True))
    if not found:
        mode = "live" if settings.STRIPE_LIVEMODE else "test"
        raise CommandError(f"{slug} has no connected account in {mode} mode.")
    return found


def _instant(text: str) -> datetime:
    now = timezone.now()
    if span := re.fullmatch(r"(\d{1,5})([mhd])", text):
        start = now - timedelta(**{UNITS[span[2]]: int(span[1])})
    else:
        try:
            parsed = parse_datetime(text)
        except ValueError:
            parsed = None
        if parsed is None:
            raise CommandError(f"--since {text}: write 90m, 24h, 30d or 2026-11-01T08:00Z.")
        start = parsed if timezone.is_aware(parsed) else timezone.make_aware(parsed)
    if start < now - FURTHEST:
        raise CommandError("Stripe lists events of the last 30 days only; write --since 30d.")
    return start
