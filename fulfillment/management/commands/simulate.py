import secrets
import urllib.error
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fulfillment import simulation
from fulfillment.models import StripeEvent
from purchases.models import Plan
from tenants.models import PaymentAccount, Tenant

COMPLETED = "checkout.session.completed"


class Command(BaseCommand):
    help = (
        "Send the running server the signed events that Stripe would send for a purchase. "
        "Needs no Stripe account; writes a checkout, and whatever its events lead to."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("scenario", choices=["checkout"])
        parser.add_argument("--tenant", help="slug; default: the only tenant there is")
        parser.add_argument("--plan", help="id; default: the tenant's first plan with a price")
        parser.add_argument("--email", default="member@example.com", help="what the buyer types")
        parser.add_argument("--url", help="of the webhook; default: below ALLEGRO_URL")
        delayed = parser.add_mutually_exclusive_group()
        delayed.add_argument("--unpaid", action="store_true", help="a bank debit, under way")
        delayed.add_argument("--async-success", action="store_true", help="… that succeeds")
        delayed.add_argument("--async-failure", action="store_true", help="… that fails")
        parser.add_argument("--duplicate", action="store_true", help="deliver each event twice")
        parser.add_argument("--wrong-account", action="store_true", help="from somebody else")
        parser.add_argument("--wrong-secret", action="store_true", help="signed with another one")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.STRIPE_LIVEMODE:
            raise CommandError("STRIPE_SECRET_KEY is a live key: this would sell for real.")
        if not settings.STRIPE_WEBHOOK_SECRETS:
            raise CommandError("Set STRIPE_WEBHOOK_SECRET, here and for the server, to sign with.")
        tenant = _tenant(options["tenant"])
        plan = _plan(tenant, options["plan"])
        account = _account(tenant)
        token = secrets.token_urlsafe(32)
        checkout = simulation.open_checkout(tenant, plan, account, token=token)
        self.stdout.write(
            f"{checkout.stripe_session_id}: {plan} of {tenant} for {options['email']}"
        )

        is_delayed = options["unpaid"] or options["async_success"] or options["async_failure"]
        session = simulation.session_of(
            checkout,
            email=options["email"],
            payment_status="unpaid" if is_delayed else "paid",
        )
        self._send(session, COMPLETED, account, options)
        if options["async_success"]:
            session["payment_status"] = "paid"
            self._send(session, "checkout.session.async_payment_succeeded", account, options)
        if options["async_failure"]:
            self._send(session, "checkout.session.async_payment_failed", account, options)
        self.stdout.write(f"The token its buyer comes back with: {token}")

    def _send(
        self,
        session: simulation.Payload,
        kind: str,
        account: PaymentAccount,
        options: dict[str, Any],
    ) -> None:
        account_id = "acct_wrong" if options["wrong_account"] else account.stripe_account_id
        event = simulation.event_about(session, kind, account_id=account_id)
        for _ in range(2 if options["duplicate"] else 1):
            status = self._deliver(event, options)
            record = StripeEvent.objects.filter(pk=event["id"]).first()
            outcome = f"{record.status}: {record.outcome}" if record else "not recorded"
            self.stdout.write(f"{event['id']} {kind}: answered {status}, {outcome}")

    def _deliver(self, event: simulation.Payload, options: dict[str, Any]) -> int:
        url = options["url"] or f"{settings.ALLEGRO_URL}/api/webhooks/stripe"
        secret = settings.STRIPE_WEBHOOK_SECRETS[0]
        if options["wrong_secret"]:
            secret = "whsec_test_of_another_endpoint"  # noqa: S105
        try:
            return simulation.deliver(event, url=url, secret=secret)
        except urllib.error.URLError as error:
            raise CommandError(
                f"No server answers at {url} ({error.reason}). Start it with `make demo`, "
                "or say where it is with --url."
            ) from error


def _tenant(slug: str | None) -> Tenant:
    tenants = Tenant.objects.filter(slug=slug) if slug else Tenant.objects.all()[:2]
    if len(tenants) != 1:
        known = ", ".join(Tenant.objects.values_list("slug", flat=True)) or "none yet"
        raise CommandError(f"Say which tenant with --tenant SLUG. There are: {known}.")
    return tenants[0]


def _plan(tenant: Tenant, plan_id: str | None) -> Plan:
    plans = Plan.objects.filter(offer__tenant=tenant, is_active=True)
    known = {str(plan.id): plan for plan in plans}
    chosen = known.get(plan_id) if plan_id else plans.filter(amount__gt=0).first()
    if chosen is None:
        listed = "".join(f"\n  {plan.id}  {plan}" for plan in plans) or " none"
        raise CommandError(f"Say which plan of {tenant} with --plan ID. There are:{listed}")
    return chosen


def _account(tenant: Tenant) -> PaymentAccount:
    account = tenant.payment_accounts.filter(livemode=False, disconnected_at=None).first()
    if account is None:
        raise CommandError(
            f"{tenant} has no Stripe account in test mode. Add a payment account in the admin."
        )
    return account
