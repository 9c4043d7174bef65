from typing import Any

from django.core.management.base import BaseCommand

from fulfillment.pruning import prune


class Command(BaseCommand):
    help = (
        "Remove the bodies of settled events older than 90 days, and tokens that nobody can use. "
        "The worker does it daily."
    )

    def handle(self, **options: Any) -> None:
        for kind, removed in prune().items():
            self.stdout.write(f"{removed} {kind}")
