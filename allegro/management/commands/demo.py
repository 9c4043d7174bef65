import os
import socket
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils.crypto import salted_hmac

from purchases.models import CreditPackage, Offer, Plan, Product
from tenants.models import PaymentAccount, Tenant

PACKAGES = [(1, 3_000), (5, 14_000), (10, 25_000), (25, 57_500), (50, 100_000)]


class Command(BaseCommand):
    help = "Fill the database with a demo tenant, unless it is there, and serve on port 8000."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, port: int, **options: Any) -> None:
        if settings.STRIPE_LIVEMODE:
            raise CommandError("STRIPE_SECRET_KEY is a live key: no place for a demo.")
        _require_free(port)
        call_command("migrate", verbosity=0)
        with transaction.atomic():
            _make_admin()
            _make_tenant()
        self.stdout.write(_instructions(port))
        self.stdout.flush()
        # From here on this process is the server, so that Ctrl-C and signals are its own.
        os.execv(  # noqa: S606
            sys.executable,
            [
                sys.executable, "-m", "gunicorn", "allegro.wsgi:application",
                "--worker-class", "gthread", "--workers", "2", "--threads", "4",
                "--bind", f"127.0.0.1:{port}", "--no-control-socket", "--log-level", "warning",
            ],
        )  # fmt: skip


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(
                f"Port {port} is in use. Stop what runs there, or choose another: "
                "manage.py demo --port 8001"
            ) from error


def _admin_password() -> str:
    # Derived, so that a second run can print it without its being stored anywhere.
    return salted_hmac("allegro.demo", "admin").hexdigest()[:16]


def _make_admin() -> None:
    users = get_user_model().objects
    if not users.filter(username="admin").exists():
        users.create_superuser("admin", password=_admin_password())


def _make_tenant() -> None:
    tenant, is_new = Tenant.objects.get_or_create(
        slug="demo", defaults={"name": "Demo Weekly", "timezone": "Europe/Paris"}
    )
    if not is_new:
        return
    PaymentAccount.objects.create(
        tenant=tenant,
        stripe_account_id="acct_test_demo",
        livemode=False,
        display_name="Demo Weekly",
        charges_enabled=True,
        payouts_enabled=True,
        details_submitted=True,
    )
    archive = Product.objects.create(tenant=tenant, slug="archive", name="Archive")
    weekly = Product.objects.create(tenant=tenant, slug="weekly", name="Weekly issue")
    offer = Offer.objects.create(tenant=tenant, slug="membership", name="Membership")
    month = {"name": "One month", "amount": 1_200, "duration": "P1M"}
    year = {"name": "One year", "amount": 12_000, "duration": "P1Y"}
    for terms, products in ((month, [weekly]), (year, [weekly, archive])):
        plan = Plan.objects.create(offer=offer, currency="eur", **terms)
        plan.products.set(products)
    for credits_, amount in PACKAGES:
        CreditPackage.objects.get_or_create(
            key=f"{credits_}_credit{'s' if credits_ > 1 else ''}",
            defaults={"credits": credits_, "amount": amount, "currency": "eur"},
        )


def _instructions(port: int) -> str:
    here = f"http://localhost:{port}"
    admin = get_user_model().objects.get(username="admin")
    password = _admin_password()
    shown = password if admin.check_password(password) else "(the one you set)"
    send = f"{_command()} simulate checkout --tenant demo"
    if here != settings.ALLEGRO_URL:
        send += f" --url {here}/api/webhooks/stripe"
    return f"""
  Admin            {here}/admin/      user admin, password {shown}
  Webhook          {here}/api/webhooks/stripe
  Webhook secret   {settings.STRIPE_WEBHOOK_SECRETS[0]}

  Buy something: in a second terminal, in this folder, send a signed event with

      {send}

  and look at the purchase, its entitlements and events in the admin. Ctrl-C stops the server.
"""


def _command() -> str:
    python = Path(sys.executable)
    inside = python.is_relative_to(Path.cwd())
    return f"{python.relative_to(Path.cwd()) if inside else python} manage.py"
