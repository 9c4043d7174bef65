from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fulfillment import inbox, spool
from fulfillment.models import StripeEvent


class Command(BaseCommand):
    help = "Process again the Stripe events that are stored but led to nothing yet, oldest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "event_ids", nargs="*", metavar="evt_…", help="default: all that are not settled"
        )
        parser.add_argument("--dry-run", action="store_true", help="only list them")

    def handle(self, *, event_ids: list[str], dry_run: bool, **options: Any) -> None:
        if not dry_run:
            spool.drain()
        records = StripeEvent.objects.defer("payload").order_by("received_at")
        if event_ids:
            records = records.filter(pk__in=event_ids)
            if unknown := set(event_ids) - set(records.values_list("pk", flat=True)):
                raise CommandError(f"Not in the inbox: {', '.join(sorted(unknown))}.")
        failed = 0
        for record in records if event_ids else records.unsettled():
            after = record if dry_run else inbox.process_again(record.pk)
            failed += after.status == StripeEvent.Status.FAILED
            self.stdout.write(f"{after.pk} {after.status} {after.outcome}".rstrip())
        if failed and not dry_run:
            raise CommandError(f"{failed} failed again; each record's error says why.")
