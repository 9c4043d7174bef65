import json
import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from allegro import demo_data
from allegro.processes import run_together
from fulfillment.signatures import configured_secrets
from purchases.amounts import display
from purchases.models import Plan
from tenants.models import Tenant


class Command(BaseCommand):
    help = (
        "Run all of Allegro on this machine, with a demo tenant, a shop that sells its plans, and "
        "a stand-in for Stripe (unless .env names the real one). Ctrl-C ends all of it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="of Allegro")
        parser.add_argument("--sandbox-port", type=int, default=8001, help="of the stand-in")
        parser.add_argument("--shop-port", type=int, default=8002, help="of the shop")

    def handle(self, *, port: int, sandbox_port: int, shop_port: int, **options: Any) -> None:
        if settings.STRIPE_LIVEMODE:
            raise CommandError("STRIPE_SECRET_KEY is a live key: no place for a demo.")
        for name, taken in (
            ("port", port),
            ("sandbox-port", sandbox_port),
            ("shop-port", shop_port),
        ):
            _require_free(name, taken)
        _tell_children(port, sandbox_port)
        call_command("migrate", verbosity=0)
        tenant = demo_data.make(f"http://localhost:{shop_port}")
        commands = [
            _web(port),
            [sys.executable, "manage.py", "worker"],
            _shop(shop_port, port, tenant),
        ]
        if settings.STRIPE_API_BASE:
            commands.append(_sandbox(sandbox_port, port))
        # The children make connections of their own.
        connection.close()
        self.stdout.write(_instructions(port, sandbox_port, shop_port))
        self.stdout.flush()
        sys.exit(run_together(commands))


def _require_free(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(
                f"Port {port} is in use. Stop what runs there, or choose another: "
                f"{_manage()} demo --{name} {port + 10}"
            ) from error


def _tell_children(port: int, sandbox_port: int) -> None:
    """Of the ports: Stripe's pages lead back to ours, and we to Stripe's."""
    if urlsplit(settings.ALLEGRO_URL).hostname == "localhost":
        os.environ["ALLEGRO_URL"] = f"http://localhost:{port}"
    if settings.STRIPE_API_BASE:
        os.environ["STRIPE_API_BASE"] = f"http://127.0.0.1:{sandbox_port}"


def _web(port: int) -> list[str]:
    return [
        sys.executable, "-m", "gunicorn", "allegro.wsgi:application",
        "--worker-class", "gthread", "--workers", "2", "--threads", "4",
        "--bind", f"127.0.0.1:{port}", "--preload", "--no-control-socket", "--log-level", "warning",
        "--graceful-timeout", "5",
    ]  # fmt: skip


def _shop(port: int, web_port: int, tenant: Tenant) -> list[str]:
    plans = [
        {"id": str(plan.id), "name": plan.name, "price": display(plan.amount, plan.currency)}
        for plan in Plan.objects.filter(offer__tenant=tenant, is_active=True).order_by("amount")
    ]
    return [
        sys.executable, "-m", "sandbox.shop", "--port", str(port),
        "--allegro", f"http://localhost:{web_port}", "--key", demo_data.publishable_key(),
        "--plans", json.dumps(plans),
    ]  # fmt: skip


def _sandbox(port: int, web_port: int) -> list[str]:
    return [
        sys.executable, "-m", "sandbox", "--port", str(port),
        "--key", settings.STRIPE_SECRET_KEY, "--client-id", settings.STRIPE_CONNECT_CLIENT_ID,
        "--webhook", f"http://localhost:{web_port}/api/webhooks/stripe",
        "--secret", configured_secrets()[0],
        "--account", demo_data.ACCOUNT_ID,
        "--redirect-uri", f"{os.environ['ALLEGRO_URL'].rstrip('/')}/connect/stripe/callback",
        "--state", str(settings.BASE_DIR / "var" / "sandbox.json"),
    ]  # fmt: skip


def _instructions(port: int, sandbox_port: int, shop_port: int) -> str:
    here = f"http://localhost:{port}"
    admin = get_user_model().objects.get(username="admin")
    password = demo_data.admin_password()
    shown = password if admin.check_password(password) else "(the one you set)"
    send = f"{_manage()} simulate checkout --tenant demo"
    if here != settings.ALLEGRO_URL:
        send += f" --url {here}/api/webhooks/stripe"
    stripe = f"http://localhost:{sandbox_port}/" if settings.STRIPE_API_BASE else "the real one"
    return f"""
  Shop             http://localhost:{shop_port}/      buy something here
  Admin            {here}/admin/      user admin, password {shown}
  Stripe           {stripe}      refunds, disputes and deliveries, if a stand-in
  Webhook          {here}/api/webhooks/stripe
  Webhook secret   {configured_secrets()[0]}

  Or send the signed events of a purchase from a second terminal, in this folder:

      {send}

  and look at the purchase, its entitlements and events in the admin. Ctrl-C ends all of it.
"""


def _manage() -> str:
    python = Path(sys.executable)
    inside = python.is_relative_to(Path.cwd())
    return f"{python.relative_to(Path.cwd()) if inside else python} manage.py"
