"""A member or a tenant is disabled: refused at the next call, everywhere, until enabled again."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.urls import reverse

from purchases.models import Entitlement, Purchase
from tenants.models import Member, MemberSession, Tenant
from tests.routes import MEMBER, PUBLISHABLE, call

LIST = reverse("admin:tenants_member_changelist")


def press(client, action):
    """Tick every member in the list and choose the action."""
    everybody = [member.pk for member in Member.objects.all()]
    return client.post(LIST, {"action": action, "_selected_action": everybody}, follow=True)


@pytest.fixture
def disable(admin_client):
    return lambda: press(admin_client, "disable")


@pytest.fixture
def enable(admin_client):
    return lambda: press(admin_client, "enable")


@pytest.fixture
def calls(client, signed_in, plan, publishable_key):
    """What a signed-in browser can do, each as a function that returns the answer."""

    def checkout():
        headers = {
            "Authorization": f"Bearer {publishable_key}",
            "Allegro-Member": signed_in["jwt"],
        }
        body = {"plan": str(plan.id), "return_url": "https://elsewhere.example/"}
        return client.post(
            "/api/checkout/sessions", body, content_type="application/json", headers=headers
        )

    def refresh():
        return call(
            client,
            "post",
            "api/members/token/refresh",
            refresh_token=signed_in["refresh_token"],
        )

    reads = {
        route: lambda route=route: call(client, "get", route, signed_in["jwt"]) for route in MEMBER
    }
    return {**reads, "checkout": checkout, "refresh": refresh}


CALLS = [*sorted(MEMBER), "checkout", "refresh"]


def error(answer):
    return answer.status_code, answer.json()["error"]["type"]


# --- members


@pytest.mark.parametrize("name", CALLS)
def test_a_disabled_member_is_refused_at_the_next_call(calls, disable, name):
    disable()

    answer = calls[name]()

    assert error(answer) == (401, "invalid_member_token")
    assert "This member is disabled." in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", CALLS)
def test_an_enabled_member_goes_on_where_they_were(calls, disable, enable, name):
    disable()
    assert calls[name]().status_code == 401

    enable()

    assert calls[name]().status_code in (200, 400)


def test_a_member_disabled_before_coming_back_gets_the_purchase_but_no_session(
    exchange, deliver, checkout, paid_event, disable
):
    deliver(paid_event)
    disable()

    answer = exchange()

    assert error(answer) == (403, "member_disabled")
    assert Purchase.objects.get().status == "paid"
    assert Entitlement.objects.active().count() == 2
    assert not MemberSession.objects.exists()


def test_a_purchase_of_a_disabled_member_is_fulfilled(
    exchange, deliver, checkout, paid_event, tenant
):
    email = paid_event["data"]["object"]["customer_details"]["email"]
    Member.objects.create(tenant=tenant, email=email, disabled_at=tenant.created_at)

    deliver(paid_event)

    assert Purchase.objects.get().status == "paid"
    assert error(exchange()) == (403, "member_disabled")


def test_the_return_token_is_still_good_once_the_member_is_enabled(
    exchange, deliver, checkout, paid_event, disable, enable
):
    deliver(paid_event)
    disable()
    exchange()

    enable()

    assert exchange().json()["status"] == "completed"


def test_a_repeated_exchange_signs_no_disabled_member_in(exchange, signed_in, disable):
    disable()

    assert error(exchange()) == (403, "member_disabled")


def test_disabling_one_member_leaves_the_others_alone(calls, admin_client, tenant):
    neighbor = Member.objects.create(tenant=tenant, email="neighbor@example.com")

    admin_client.post(LIST, {"action": "disable", "_selected_action": [neighbor.pk]})

    assert calls["api/entitlements"]().status_code == 200


def test_the_list_tells_the_disabled_from_the_others(admin_client, tenant, disable):
    one = Member.objects.create(tenant=tenant, email="one@example.com")
    disable()
    Member.objects.create(tenant=tenant, email="two@example.com")

    page = admin_client.get(LIST, {"disabled_at__isempty": "0"})

    assert list(page.context["cl"].queryset) == [one]


def test_disabling_and_enabling_are_in_the_members_history(disable, enable, signed_in):
    pages = [disable(), disable(), enable()]

    entries = LogEntry.objects.order_by("id")
    assert [entry.get_change_message() for entry in entries] == ["Disabled.", "Enabled."]
    assert {entry.object_id for entry in entries} == {signed_in["member"]["id"]}
    assert [said in page.text for said, page in zip(
        ("1 disabled.", "0 disabled.", "1 enabled."), pages, strict=True
    )] == [True] * 3  # fmt: skip


def test_disabling_needs_the_permission_to_change(client, django_user_model, signed_in):
    operator = django_user_model.objects.create(username="operator", is_staff=True)
    operator.user_permissions.add(Permission.objects.get(codename="view_member"))
    client.force_login(operator)

    press(client, "disable")

    assert Member.objects.get().disabled_at is None


# --- tenants


@pytest.mark.parametrize("name", CALLS)
def test_the_members_of_a_disabled_tenant_are_refused_until_it_is_enabled(calls, name):
    Tenant.objects.update(is_active=False)
    answer = calls[name]()

    Tenant.objects.update(is_active=True)

    assert answer.status_code == 401
    assert calls[name]().status_code in (200, 400)


@pytest.mark.parametrize("route", sorted(PUBLISHABLE))
def test_a_disabled_tenants_site_can_start_and_confirm_nothing(
    client, publishable_key, tenant, route
):
    Tenant.objects.update(is_active=False)

    answer = call(client, "post", route, publishable_key)

    assert error(answer) == (401, "authentication_failed")


def test_a_disabled_tenant_has_no_return_page(client, tenant):
    Tenant.objects.update(is_active=False)

    assert client.get("/purchase/return", {"tenant": tenant.slug}).status_code == 404
