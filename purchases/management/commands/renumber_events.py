from typing import Any

from django.core.management.base import BaseCommand

from purchases.restoring import renumber_events


class Command(BaseCommand):
    help = (
        "After a dump was restored into another PostgreSQL server: number its purchase events "
        "anew, in the order they have, so that the feed shows them."
    )

    def handle(self, **options: Any) -> None:
        self.stdout.write(f"{renumber_events()} purchase events were numbered anew.")
