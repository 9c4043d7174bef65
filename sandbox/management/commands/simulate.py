import secrets
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import F

from fulfillment.checkouts import hosted_return_page
from fulfillment.models import Checkout, StripeEvent
from fulfillment.return_urls import TOKEN, with_parameter
from fulfillment.signatures import configured_secrets
from purchases import catalog, ledger
from purchases.models import CreditPackage, Entitlement, Plan
from sandbox import simulation
from sandbox.config import Endpoint
from sandbox.objects import Json
from tenants.keys import sha256
from tenants.models import Member, PaymentAccount, Tenant

# What goes wrong on the way, and the story that it happens to.
DISTURBED = {
    "duplicate": "checkout",
    "shuffle": "refund",
    "wrong-account": "checkout",
    "test-mode": "checkout",
}
SCENARIOS = [*simulation.STORIES, *DISTURBED]


class Command(BaseCommand):
    help = (
        "Send the running server the signed events that Stripe would send for a purchase. "
        "Needs neither Stripe nor the sandbox; writes a checkout, and whatever its events lead to."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("scenario", choices=SCENARIOS)
        parser.add_argument("--tenant", help="slug; default: the only tenant there is")
        bought = parser.add_mutually_exclusive_group()
        bought.add_argument("--plan", help="id; default: the tenant's first plan with a price")
        bought.add_argument("--package", help="key; buys credits from the platform instead")
        parser.add_argument("--email", default="member@example.com", help="what the buyer types")
        parser.add_argument("--url", help="of the webhook; default: below ALLEGRO_URL")
        add_delay = parser.add_mutually_exclusive_group().add_argument
        for option, story in (
            ("--unpaid", "bank-debit"),
            ("--async-success", "bank-debit-ok"),
            ("--async-failure", "bank-debit-fail"),
        ):
            add_delay(
                option,
                dest="story",
                action="store_const",
                const=story,
                help=f"of checkout: as {story}",
            )
        parser.add_argument("--duplicate", action="store_true", help="deliver each event twice")
        parser.add_argument("--wrong-account", action="store_true", help="from somebody else")
        parser.add_argument("--wrong-secret", action="store_true", help="signed with another one")

    def handle(self, *, scenario: str, tenant: str | None, **options: Any) -> None:
        if settings.STRIPE_LIVEMODE:
            raise CommandError("STRIPE_SECRET_KEY is a live key: this would sell for real.")
        if not configured_secrets():
            raise CommandError("Set STRIPE_WEBHOOK_SECRET, here and for the server, to sign with.")
        if options["story"] and DISTURBED.get(scenario, scenario) != "checkout":
            raise CommandError(f"A bank debit goes with checkout, not with {scenario}.")
        options[scenario.replace("-", "_")] = True
        seller = _tenant(tenant)
        token = secrets.token_urlsafe(32)
        checkout = _checkout(seller, plan_id=options["plan"], package_key=options["package"])
        sale = _open(checkout, token, options)
        self.stdout.write(f"{checkout}: {checkout.plan or checkout.package} of {seller}")

        simulation.STORIES[options["story"] or DISTURBED.get(scenario, scenario)](sale)
        answers = [self._send(event, options) for event in _disturbed(sale.events, options)]

        self.stdout.write(_state_of(checkout, options["email"]))
        self.stdout.write(f"The token its buyer comes back with: {token}")
        if refused := sum(answer != 200 for answer in answers):
            raise CommandError(f"{refused} of {len(answers)} deliveries were not answered 200.")

    def _send(self, event: Json, options: dict[str, Any]) -> int:
        endpoint = _endpoint(options)
        try:
            answer = simulation.deliver(event, endpoint)
        except (OSError, HTTPException) as error:
            raise CommandError(
                f"No server answers at {endpoint.url} ({error}). Start it with `make demo`, "
                "or say where it is with --url."
            ) from error
        record = StripeEvent.objects.filter(pk=event["id"]).values_list("status", "outcome").first()
        outcome = ": ".join(record) if record else "not recorded"
        self.stdout.write(f"{event['id']} {event['type']}: answered {answer}, {outcome}")
        return answer


def _tenant(slug: str | None) -> Tenant:
    tenants = Tenant.objects.filter(slug=slug) if slug else Tenant.objects.all()[:2]
    if len(tenants) != 1:
        known = ", ".join(Tenant.objects.values_list("slug", flat=True)) or "none yet"
        raise CommandError(f"Say which tenant with --tenant SLUG. There are: {known}.")
    return tenants[0]


def _checkout(tenant: Tenant, *, plan_id: str | None, package_key: str | None) -> Checkout:
    """A checkout, not saved yet, of the package if one is named and else of a plan."""
    if package_key:
        package = _package(package_key)
        snapshot = catalog.snapshot_of_package(package)
        return Checkout(tenant=tenant, package=package, snapshot=snapshot, livemode=False)
    plan = _plan(tenant, plan_id)
    return Checkout(
        tenant=tenant,
        plan=plan,
        snapshot=catalog.snapshot_of_plan(plan),
        account_id=_account(tenant).stripe_account_id,
        livemode=False,
    )


def _package(key: str) -> CreditPackage:
    packages = {package.key: package for package in CreditPackage.objects.filter(is_active=True)}
    if key not in packages:
        listed = ", ".join(packages) or "none yet"
        raise CommandError(f"Say which package with --package KEY. There are: {listed}.")
    return packages[key]


def _plan(tenant: Tenant, plan_id: str | None) -> Plan:
    # A plan without a price never comes to Stripe.
    plans = Plan.objects.filter(offer__tenant=tenant, is_active=True, amount__gt=0)
    known = {str(plan.id): plan for plan in plans}
    chosen = known.get(plan_id) if plan_id else plans.first()
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


def _open(checkout: Checkout, token: str, options: dict[str, Any]) -> simulation.Sale:
    """Open the checkout's session, with what the product asks Stripe for, and save both."""
    checkout.token_sha256 = sha256(token)
    checkout.return_url = hosted_return_page(checkout.tenant)
    sale = simulation.open_sale(
        _session_params(checkout, token),
        account_id="acct_wrong" if options["wrong_account"] else checkout.account_id,
        email=options["email"],
        client_id=settings.STRIPE_CONNECT_CLIENT_ID,
        endpoint=_endpoint(options),
    )
    checkout.stripe_session_id = sale.session["id"]
    checkout.expires_at = datetime.fromtimestamp(sale.session["expires_at"], UTC)
    checkout.save(force_insert=True)
    return sale


def _session_params(checkout: Checkout, token: str) -> Json:
    snapshot = checkout.snapshot
    bought = {"plan_id": snapshot["plan"]} if checkout.plan else _package_metadata(snapshot)
    metadata = {"tenant_id": str(checkout.tenant_id), "checkout_id": str(checkout.id), **bought}
    price = {
        "currency": snapshot["currency"],
        "unit_amount": snapshot["amount"],
        "product_data": {"name": snapshot["name"]},
    }
    return {
        "line_items": [{"quantity": 1, "price_data": price}],
        "client_reference_id": str(checkout.id),
        "metadata": metadata,
        "payment_intent_data": {"metadata": metadata},
        "success_url": with_parameter(checkout.return_url, TOKEN, token),
    }


def _package_metadata(snapshot: Json) -> dict[str, str]:
    return {"package": snapshot["package"], "credits": str(snapshot["credits"])}


def _endpoint(options: dict[str, Any]) -> Endpoint:
    secret = configured_secrets()[0]
    if options["wrong_secret"]:
        secret = "whsec_test_of_another_endpoint"  # noqa: S105
    return Endpoint(options["url"] or f"{settings.ALLEGRO_URL}/api/webhooks/stripe", secret)


def _disturbed(events: list[Json], options: dict[str, Any]) -> list[Json]:
    """The events as they arrive."""
    if options.get("test_mode"):
        events = [simulation.in_live_mode(event) for event in events]
    if options.get("shuffle"):
        return simulation.shuffled(events)
    return [event for event in events for _ in range(2 if options["duplicate"] else 1)]


def _state_of(checkout: Checkout, email: str) -> str:
    """What the buyer has now."""
    if checkout.package:
        return f"{checkout.tenant} has {ledger.balance_of(checkout.tenant, None)} credits."
    member = Member.objects.filter(tenant=checkout.tenant, email__iexact=email).first()
    if member is None:
        return f"{email} is no member of {checkout.tenant}."
    products = ", ".join(_products_of(member)) or "no product"
    credits_ = ledger.balance_of(checkout.tenant, member)
    return f"{email} has {products}; {credits_} credits."


def _products_of(member: Member) -> list[str]:
    active = Entitlement.objects.active().filter(member=member).values("product")
    standing = Entitlement.objects.filter(
        member=member, product__in=active, suspended_at=None, revoked_at=None
    ).order_by("product__slug", F("ends_at").asc(nulls_last=True))
    # Of each product the last end counts, as periods follow one another.
    ends = dict(standing.values_list("product__slug", "ends_at"))
    return [f"{slug} {_until(end, member.tenant)}" for slug, end in ends.items()]


def _until(end: datetime | None, tenant: Tenant) -> str:
    if end is None:
        return "for good"
    return f"until {end.astimezone(tenant.zone):%Y-%m-%d %H:%M %Z}"
