from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.keys import create_key
from tenants.models import ApiKey, Tenant


class Command(BaseCommand):
    help = "Make an API key for a tenant and print it. It can't be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="slug")
        parser.add_argument("kind", choices=ApiKey.Kind.values, help="publishable: for browsers")
        parser.add_argument("--name", default="", help="where it is used, for the admin's list")

    def handle(self, *, tenant: str, kind: str, name: str, **options: Any) -> None:
        try:
            owner = Tenant.objects.get(slug=tenant)
        except Tenant.DoesNotExist as error:
            known = ", ".join(Tenant.objects.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no tenant {tenant!r}. There are: {known}.") from error
        self.stdout.write(create_key(owner, ApiKey.Kind(kind), name=name))
