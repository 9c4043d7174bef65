"""The page that shows a new API key, as operators see it."""

import re

import pytest
from playwright.sync_api import expect

from tenants.models import ApiKey

pytest_plugins = ["tests.browser"]


@pytest.fixture
def desk(visitor, server, admin_client):
    """The admin, opened by somebody who may do everything."""
    cookie = {"name": "sessionid", "value": admin_client.cookies["sessionid"].value}
    visitor.context.add_cookies([{**cookie, "url": server.url}])
    visitor.expects("/favicon.ico")  # the admin has none
    return visitor.open(f"{server.url}/admin/")


def test_a_key_is_made_shown_once_replaced_and_revoked(desk, server, tenant):
    desk.goto(f"{server.url}/admin/tenants/apikey/add/")
    desk.click(".select2-selection")
    desk.click(".select2-results__option:has-text('Acme')")
    desk.select_option("#id_kind", "secret")
    desk.fill("#id_name", "shop server")
    desk.click("input[type=submit][name=_save]")

    shown = desk.get_by_label("The new key")
    expect(shown).to_have_value(re.compile(r"^sk_[\w-]{43}$"))
    first = shown.input_value()
    shoot(desk, "new-api-key")
    desk.reload()
    expect(desk.locator(".errornote")).to_be_visible()
    assert first not in desk.content()
    assert ApiKey.objects.count() == 1

    desk.goto(f"{server.url}/admin/tenants/apikey/{ApiKey.objects.get().pk}/change/")
    shoot(desk, "api-key")
    desk.click("input[value=Replace]")
    expect(shown).to_have_value(re.compile(r"^sk_[\w-]{43}$"))
    assert shown.input_value() != first
    desk.click("text=I have copied it")
    expect(desk.locator("#content")).to_contain_text("shop server")
    assert ApiKey.objects.filter(revoked_at=None).count() == 2


def shoot(page, name):
    """Keep how it looks, after checking that nothing has to be scrolled sideways."""
    # Not above: pytest has to load the plugin first.
    from tests.browser import DESKTOP, PHONE, SCREENSHOTS

    for width, height in (PHONE, DESKTOP):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=SCREENSHOTS / f"{name}-{width}.png", full_page=True)
