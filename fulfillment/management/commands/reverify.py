from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fulfillment import quarantine
from fulfillment.models import RejectedDelivery
from fulfillment.quarantine import Verdict


class Command(BaseCommand):
    help = "Verify rejected deliveries again, with the webhook secrets of now, oldest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say which are genuine")

    def handle(self, *, dry_run: bool, **options: Any) -> None:
        counts: Counter[Verdict] = Counter()
        kept = RejectedDelivery.objects.order_by("received_at", "pk")
        for delivery_id, received_at in list(kept.values_list("pk", "received_at")):
            verdict, record = quarantine.verify_again(delivery_id, dry_run=dry_run)
            counts[verdict] += 1
            outcome = f"{record.pk} {record.status} {record.outcome}".rstrip() if record else ""
            self.stdout.write(f"{received_at:%Y-%m-%d %H:%M:%S} {verdict} {outcome}".rstrip())
        self.stdout.write(summary(counts))
        if refused := counts[Verdict.NOT_STORED]:
            raise CommandError(f"{refused} could not be stored; they are kept. Run this again.")


def summary(counts: Counter[Verdict]) -> str:
    if not counts:
        return "No rejected deliveries are kept."
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + "."
