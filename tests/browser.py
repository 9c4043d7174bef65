"""A browser in the tests: Chromium, visitors who are watched for complaints, and what they visit.

Test files say `pytest_plugins = ["tests.browser"]`.
"""

from contextlib import ExitStack
from pathlib import Path

import pytest
from django.core.cache import cache
from playwright.sync_api import expect, sync_playwright

from sandbox.shop import __main__ as demo_shop
from tests.chromium import NONE_FOUND, find_chromium
from tests.conftest import ACCOUNT_ID
from tests.loopback import serving
from tests.sandbox_server import CLIENT_ID, KEY, SECRET, running_sandbox
from tests.server import free_port, running_server

FOLDER = Path(__file__).parent
SCREENSHOTS = FOLDER / "screenshots"
READABLE = (FOLDER / "readable.js").read_text()
PATIENCE = 10_000  # ms; a condition is met long before, but machines differ
NARROW, PHONE, DESKTOP = (320, 640), (390, 844), (1280, 800)
ARGUMENTS = [
    "--no-sandbox",  # containers run as root
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# Playwright turns it off; the back button of real browsers brings a page back as it was.
KEPT_ALIVE = ["--disable-back-forward-cache"]
LISTEN = """
window.allegroEvents = [];
for (const name of ["ready", "authenticated", "purchase:completed", "purchase:processing",
                    "purchase:failed"]) {
  window.addEventListener("allegro:" + name, () => window.allegroEvents.push(name));
}
"""


class Visitor:
    """One person's browser: a profile of its own, shared by its tabs."""

    def __init__(self, context):
        self.context = context
        self.requests = []
        self._complaints = []
        self._expected = []
        context.set_default_timeout(PATIENCE)
        context.add_init_script(LISTEN)
        context.on("request", self._note)
        context.on("console", self._hear)
        context.on("weberror", lambda error: self._complaints.append(f"script: {error.error}"))
        context.on("requestfailed", self._miss)

    def open(self, url):
        """Open the address in a new tab."""
        page = self.context.new_page()
        page.goto(url)
        return page

    def expects(self, complaint):
        """Do not fail for a complaint of the browser that holds this text."""
        self._expected.append(complaint)

    def calls(self, path):
        """The requests made to a path so far, preflights apart."""
        return [
            request
            for request in self.requests
            if request.method != "OPTIONS" and path in request.url
        ]

    def hold(self, url):
        """Keep the next request to this address from leaving; it is found in the list returned."""
        held = []

        def keep(route):
            held.append(route)

        self.context.route(url, keep, times=1)
        return held

    def shoot(self, page, name):
        """Keep how the page looks, after checking that it can be read at any size and scheme."""
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for width, height in (NARROW, PHONE, DESKTOP):
                page.set_viewport_size({"width": width, "height": height})
                assert page.evaluate(READABLE) == [], f"{name} at {width} px, {scheme}"
                if (width, height) != NARROW:
                    path = SCREENSHOTS / f"{name}-{width}-{scheme}.png"
                    page.screenshot(path=path, full_page=True, animations="disabled")

    def shoot_admin(self, page, name):
        """Keep how a page in Django's own colors looks, after checking that it fits."""
        for width, height in (PHONE, DESKTOP):
            page.set_viewport_size({"width": width, "height": height})
            overhang = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(overhang) == 0, f"{name} scrolls sideways at {width} px"
            path = SCREENSHOTS / f"{name}-{width}.png"
            page.screenshot(path=path, full_page=True, animations="disabled")

    def leave(self):
        self.context.close()
        unexpected = [
            complaint
            for complaint in self._complaints
            if not any(text in complaint for text in self._expected)
        ]
        assert unexpected == []

    def _note(self, request):
        self.requests.append(request)

    def _hear(self, message):
        if message.type in ("error", "warning"):
            self._complaints.append(f"{message.type}: {message.text} {message.location['url']}")

    def _miss(self, request):
        # Aborted: the page was left while it was still asking.
        if request.failure != "net::ERR_ABORTED":
            self._complaints.append(f"{request.failure}: {request.url}")


@pytest.fixture(scope="module")
def allow_queries():
    """Playwright keeps an event loop in this thread, where Django would refuse to query."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield


@pytest.fixture(scope="module")
def chromium(market, allow_queries):
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
        if path is None:
            pytest.fail(NONE_FOUND, pytrace=False)
        browser = playwright.chromium.launch(
            executable_path=path, args=ARGUMENTS, ignore_default_args=KEPT_ALIVE
        )
        yield browser
        browser.close()


@pytest.fixture
def new_visitor(chromium, transactional_db):
    """Let another person come, with a browser of their own."""
    visitors = []

    def new_visitor():
        visitors.append(Visitor(chromium.new_context(locale="en-GB", timezone_id="Europe/Paris")))
        return visitors[-1]

    yield new_visitor
    for visitor in visitors:
        visitor.leave()


@pytest.fixture
def visitor(new_visitor):
    return new_visitor()


@pytest.fixture(scope="module")
def market(django_db_setup):
    """Allegro and the sandbox, each knowing the other: `(server, sandbox)`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    webhook = f"{url}/api/webhooks/stripe"
    with running_sandbox(webhook, accounts=[ACCOUNT_ID], bank_debit_delay=3600) as sandbox:
        environ = {
            "ALLEGRO_URL": url,
            "STRIPE_API_BASE": sandbox.url,
            "STRIPE_SECRET_KEY": KEY,
            "STRIPE_CONNECT_CLIENT_ID": CLIENT_ID,
            "STRIPE_WEBHOOK_SECRET": SECRET,
        }
        with running_server(port=port, workers=1, threads=8, env=environ) as server:
            yield server, sandbox


@pytest.fixture
def server(market, transactional_db):
    # The limits count what one address asks, and here all visitors share one.
    cache.clear()
    return market[0]


@pytest.fixture
def sandbox(market, transactional_db):
    _, sandbox = market
    yield sandbox
    sandbox.disturb(hold=False, drop=False)
    sandbox.wait_idle()


@pytest.fixture
def publish(server, sandbox, tenant):
    """Put a page on a site of the tenant's own; returns the site's origin."""
    with ExitStack() as sites:

        def publish(index):
            site = sites.enter_context(serving(demo_shop.handler(server.url, index)))
            tenant.allowed_origins = [f"http://127.0.0.1:{site.server_port}"]
            tenant.save()
            return tenant.allowed_origins[0]

        yield publish


@pytest.fixture
def shop(publish, server, account, plan, publishable_key):
    """The origin of the demo shop; it sells the plan, and one that does not exist."""
    plans = [
        {"id": str(plan.id), "name": "Monthly", "price": "250.00 EUR"},
        {"id": "00000000-0000-4000-8000-000000000000", "name": "Bygone", "price": "1.00 EUR"},
    ]
    return publish(demo_shop.page(server.url, publishable_key, plans))


@pytest.fixture
def return_url_of(sandbox):
    """Where a checkout leads after the payment, by the address of its page."""

    def return_url_of(checkout_url):
        session_id = checkout_url.rpartition("/")[2]
        options = {"stripe_account": ACCOUNT_ID}
        return sandbox.client.v1.checkout.sessions.retrieve(session_id, options=options).success_url

    return return_url_of
