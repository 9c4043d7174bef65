"""What the documents tell people to paste, type and set is tried here as it stands there."""

import re
import shlex
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import jwt
import pytest
from django.core.management import ManagementUtility
from playwright.sync_api import expect

from fulfillment import errors
from purchases.models import Purchase
from tests.loopback import serving

pytest_plugins = ["tests.browser"]

ROOT = Path(__file__).parent.parent
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
SNIPPETS = dict(
    re.findall(
        r"<!-- snippet: (\w+) -->\n```\w+\n(.*?)```", TEXTS["docs/integrating.md"], re.DOTALL
    )
)
each_document = pytest.mark.parametrize("name", TEXTS)


# --- the snippets of docs/integrating.md


def site_with(page, allegro):
    """A publisher's site, whose policy is what the document says that it needs."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header(
                "Content-Security-Policy",
                "default-src 'none'; img-src data:; "
                f"script-src {allegro} 'unsafe-inline'; connect-src {allegro}",
            )
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *arguments):
            """Say nothing."""

    return Site


@pytest.fixture
def snippets(server, tenant, account, plan, publishable_key):
    """Each with everything filled in that its reader has to."""
    values = {
        "https://allegro.example.com": server.url,
        "pk_your_key": publishable_key,
        "your_plan_id": str(plan.id),
        "your_tenant_id": str(tenant.id),
    }
    placeholder = re.compile("|".join(map(re.escape, values)))
    return {
        name: placeholder.sub(lambda found: values[found[0]], text)
        for name, text in SNIPPETS.items()
    }


@pytest.fixture
def page_address(server, tenant, snippets):
    """Of a page on an allowed origin, made of the snippets."""
    with serving(site_with(page_of(snippets), server.url)) as site:
        tenant.allowed_origins = [f"http://127.0.0.1:{site.server_port}"]
        tenant.save()
        yield f"{tenant.allowed_origins[0]}/subscribe?from=letter"


def page_of(snippets):
    head = f"<title>Shop</title><link rel=icon href=data:,>{snippets['load']}{snippets['listen']}"
    return f"<!doctype html><html><head>{head}</head><body>{snippets['buy']}{snippets['show']}"


def pay(page, method):
    page.click("#buy")
    page.fill("#email", "jenny@example.com")
    page.click(f"button[value={method}]")


def test_a_page_of_the_snippets_sells_and_shows_what_was_bought(visitor, page_address):
    page = visitor.open(page_address)
    expect(page.locator("#archive")).to_be_hidden()

    pay(page, "card")

    expect(page.locator("#message")).to_have_text("Thank you! Monthly is yours.")
    expect(page.locator("#archive")).to_be_visible()
    assert page.url == page_address
    assert page.evaluate("allegro.purchase.validation") == "completed"
    page.reload()
    expect(page.locator("#archive")).to_be_visible()


def test_a_page_of_the_snippets_says_when_nothing_was_bought(visitor, page_address):
    page = visitor.open(page_address)

    page.click("#buy")
    page.click("text=Cancel and go back")

    expect(page.locator("#message")).to_have_text("Nothing was charged.")
    expect(page.locator("#archive")).to_be_hidden()


def test_a_page_of_the_snippets_waits_for_a_bank_debit(visitor, page_address, sandbox):
    page = visitor.open(page_address)

    pay(page, "bank_ok")

    message = page.locator("#message")
    expect(message).to_have_text("Your payment is on its way. You get access when it arrives.")
    sandbox.settle(Purchase.objects.get().payment_intent_id)
    expect(message).to_have_text("Thank you! Monthly is yours.")


def test_the_snippet_for_a_server_reads_a_members_token(visitor, page_address, snippets):
    page = visitor.open(page_address)
    pay(page, "card")
    expect(page.locator("#archive")).to_be_visible()
    token = page.evaluate("allegro.member.jwt()")

    server = {}
    exec(snippets["verify"], server)

    assert sorted(server["products_of"](token)) == ["archive", "newsletter"]
    head, claims, _ = token.split(".")
    with pytest.raises(jwt.InvalidTokenError):
        server["products_of"](f"{head}.{claims}.{'A' * 342}")


def test_each_error_of_the_table_is_one_that_the_api_has():
    rows = re.findall(r"^\| [\d, ]+ \| (`.*?`) \|", TEXTS["docs/integrating.md"], re.MULTILINE)
    named = {kind for row in rows for kind in re.findall(r"`(\w+)`", row)}
    ours = {
        error.default_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.APIException)
    }

    assert named
    assert named <= ours | {"authentication_failed", "throttled"}


# --- commands, settings and places


def commands():
    """Each call of manage.py in the documents, as people type it."""
    for name, text in TEXTS.items():
        indented = re.findall(r"^    \S*python manage\.py (.*)$", text, re.MULTILINE)
        inline = re.findall(r"`manage\.py ([^`]*)`", text)
        for command in (*indented, *inline):
            yield pytest.param(command, id=f"{name}: {command}")


@pytest.mark.parametrize("command", list(commands()))
def test_manage_py_takes_each_command_as_written(command):
    name, *arguments = shlex.split(command, comments=True)

    parser = ManagementUtility().fetch_command(name).create_parser("manage.py", name)

    # In a sentence the name may stand alone.
    assert not arguments or parser.parse_args(arguments)


@each_document
def test_make_has_each_target(name):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:`|^    )make ([a-z-]+)", TEXTS[name], re.MULTILINE)

    assert set(named) <= set(targets)


@each_document
def test_each_setting_exists(name):
    known = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    # Inside backquotes: a name alone, or with a value.
    named = re.findall(r"`([A-Z]+(?:_[A-Z]+)+|DEBUG)(?:=[^`]*)?`", TEXTS[name])

    assert set(named) <= set(known)


@each_document
def test_each_link_leads_somewhere(name):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXTS[name])

    missing = [link for link in links if not (ROOT / name).parent.joinpath(link).exists()]

    assert missing == []


def test_the_path_of_one_event_is_the_codes():
    drawn = TEXTS["README.md"].split("## The path of one event")[1].split("```")[1]
    steps = re.findall(r"(\w+/\w+\.py) +([\w.]+)", drawn)

    missing = [step for step in steps if step[1].split(".")[-1] not in (ROOT / step[0]).read_text()]

    assert len(steps) > 5
    assert missing == []


@each_document
def test_each_module_that_is_run_exists(name):
    modules = re.findall(r"python -m ([\w.]+)", TEXTS[name])

    missing = [
        module for module in modules if not (ROOT / f"{module.replace('.', '/')}.py").exists()
    ]

    assert missing == []
