"""The tenants' API keys: how operators make and replace them, and what each kind opens."""

import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from tenants.authentication import page_key
from tenants.keys import create_key, sha256
from tenants.models import ApiKey, Tenant
from tests.routes import MEMBER, METHODS, PUBLISHABLE, SECRET, api_routes, call

LIST = reverse("admin:tenants_apikey_changelist")
ADD = reverse("admin:tenants_apikey_add")
KEY = re.compile(r"[ps]k_[\w-]{43}")


def nonce_in(page):
    return re.search(r'name="nonce" value="([\w-]+)"', page.text)[1]


@pytest.fixture
def form(admin_client, tenant):
    """What the operator's browser sends for a new key of the tenant's server."""
    nonce = nonce_in(admin_client.get(ADD))
    return {"tenant": tenant.pk, "kind": "secret", "name": "shop server", "nonce": nonce}


@pytest.fixture
def page_of():
    return lambda key: reverse("admin:tenants_apikey_change", args=[key.pk])


@pytest.fixture
def replace(admin_client, page_of):
    """Press the button on a key's page."""

    def replace(key, client=admin_client):
        page = client.get(page_of(key))
        return client.post(f"{page_of(key)[:-7]}replace/", {"nonce": nonce_in(page)})

    return replace


def works(client, key):
    return call(client, "get", "api/v1/credits", key).status_code == 200


# --- made in the admin


def test_a_key_made_in_the_admin_is_shown_and_works(admin_client, client, form, tenant):
    page = admin_client.post(ADD, form)

    (key,) = set(KEY.findall(page.text))
    assert page.status_code == 200
    assert works(client, key)
    row = ApiKey.objects.get()
    assert (row.tenant.slug, row.kind, row.name) == (tenant.slug, "secret", "shop server")
    assert (row.prefix, row.sha256) == (key[:12], sha256(key))


def test_a_publishable_key_is_made_the_same_way(admin_client, form):
    page = admin_client.post(ADD, {**form, "kind": "publishable"})

    (key,) = set(KEY.findall(page.text))
    assert key.startswith("pk_")
    assert ApiKey.objects.get().kind == "publishable"


def test_the_page_with_the_key_is_stored_by_nobody(admin_client, form):
    page = admin_client.post(ADD, form)

    key = KEY.search(page.text)[0]
    assert "no-store" in page.headers["Cache-Control"]
    assert key not in str(page.headers) + str(page.cookies)
    stored = [session.get_decoded() for session in Session.objects.all()]
    stored += [ApiKey.objects.values().get(), *LogEntry.objects.values()]
    assert key not in str(stored)


def test_a_reload_shows_no_key_and_makes_no_other(admin_client, form):
    first = admin_client.post(ADD, form)

    again = admin_client.post(ADD, form)

    row = ApiKey.objects.get()
    assert KEY.search(first.text)
    assert not KEY.search(again.text)
    assert f"made its key, {row.prefix}…" in again.text


def test_each_new_form_makes_another_key(admin_client, form):
    nonce = nonce_in(admin_client.get(ADD))

    pages = [admin_client.post(ADD, {**form, "nonce": each}) for each in (form["nonce"], nonce)]

    assert len({KEY.search(page.text)[0] for page in pages}) == ApiKey.objects.count() == 2


def test_the_same_form_with_another_name_is_another_key(admin_client, form):
    pages = [admin_client.post(ADD, {**form, "name": name}) for name in ("shop", "blog")]

    assert len({KEY.search(page.text)[0] for page in pages}) == 2


@pytest.mark.parametrize("nonce", ["", "guess"])
def test_a_form_without_its_random_part_makes_no_key(admin_client, form, nonce):
    admin_client.post(ADD, {**form, "nonce": nonce})

    assert not ApiKey.objects.exists()


def test_no_page_after_the_first_shows_the_key(admin_client, form, page_of):
    admin_client.post(ADD, form)

    pages = [admin_client.get(url).text for url in (page_of(ApiKey.objects.get()), LIST)]

    assert "shop server" in pages[0]
    assert "shop server" in pages[1]
    assert not KEY.search("".join(pages))


@pytest.mark.parametrize("word", ["shop", "acme", "Acme", "PREFIX"])
def test_keys_are_found_by_name_tenant_and_prefix(admin_client, form, other_account, word):
    admin_client.post(ADD, form)
    row = ApiKey.objects.get()
    create_key(other_account.tenant, ApiKey.Kind.SECRET, name="elsewhere")

    page = admin_client.get(LIST, {"q": word.replace("PREFIX", row.prefix)})

    assert list(page.context["cl"].queryset) == [row]


# --- replaced and revoked


def test_a_replaced_key_works_beside_the_new_one_until_it_is_revoked(
    admin_client, client, form, replace
):
    old = KEY.search(admin_client.post(ADD, form).text)[0]
    old_row = ApiKey.objects.get()

    new = KEY.search(replace(old_row).text)[0]

    assert [works(client, key) for key in (old, new)] == [True, True]
    new_row = ApiKey.objects.get(sha256=sha256(new))
    for column in ("tenant", "kind", "name"):
        assert getattr(new_row, column) == getattr(old_row, column)
    admin_client.post(LIST, {"action": "revoke", "_selected_action": [old_row.pk]})
    assert [works(client, key) for key in (old, new)] == [False, True]


def test_replacing_once_more_with_the_same_page_makes_no_other(admin_client, page_of, tenant):
    create_key(tenant, ApiKey.Kind.SECRET)
    page = page_of(ApiKey.objects.get())
    fields = {"nonce": nonce_in(admin_client.get(page))}
    admin_client.post(f"{page[:-7]}replace/", fields)

    again = admin_client.post(f"{page[:-7]}replace/", fields, follow=True)

    assert ApiKey.objects.count() == 2
    assert not KEY.search(again.text)
    assert "This form has made its key" in again.text


def test_a_revoked_key_is_not_replaced(admin_client, page_of, tenant):
    create_key(tenant, ApiKey.Kind.SECRET)
    ApiKey.objects.update(revoked_at=timezone.now())
    page = page_of(ApiKey.objects.get())

    answer = admin_client.post(f"{page[:-7]}replace/", {"nonce": "x" * 43})

    assert answer.status_code == 404
    assert 'value="Replace"' not in admin_client.get(page).text


def test_looking_at_the_address_of_the_button_makes_no_key(admin_client, page_of, tenant):
    create_key(tenant, ApiKey.Kind.SECRET)

    answer = admin_client.get(f"{page_of(ApiKey.objects.get())[:-7]}replace/")

    assert answer.status_code == 405
    assert ApiKey.objects.count() == 1


def test_what_was_done_to_a_key_is_in_its_history(admin_client, form, replace):
    key = KEY.search(admin_client.post(ADD, form).text)[0]
    row = ApiKey.objects.get()
    new = KEY.search(replace(row).text)[0]
    admin_client.post(LIST, {"action": "revoke", "_selected_action": [row.pk]})

    entries = LogEntry.objects.order_by("id")
    assert [entry.get_change_message() for entry in entries] == [
        "Added.",
        f"Added to replace {key[:12]}….",
        f"Replaced by {new[:12]}…; valid until revoked.",
        "Revoked.",
    ]
    assert {entry.user.username for entry in entries} == {"admin"}
    assert not KEY.search(str(list(entries.values())))


# --- who may


@pytest.fixture
def staff(client, django_user_model):
    """Sign in a member of staff who may do what is named."""

    def staff(*permissions):
        user = django_user_model.objects.create(username="operator", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return staff


def test_making_a_key_needs_its_permission(form, staff, tenant):
    answer = staff("view_apikey", "change_apikey").post(ADD, form)

    assert answer.status_code == 403
    assert not ApiKey.objects.exists()


def test_replacing_a_key_needs_its_permission(staff, page_of, tenant):
    create_key(tenant, ApiKey.Kind.SECRET)
    page = page_of(ApiKey.objects.get())
    client = staff("view_apikey", "change_apikey")

    answer = client.post(f"{page[:-7]}replace/", {"nonce": "x" * 43})

    assert answer.status_code == 403
    assert 'value="Replace"' not in client.get(page).text
    assert ApiKey.objects.count() == 1


def test_revoking_a_key_needs_its_permission(staff, tenant):
    create_key(tenant, ApiKey.Kind.SECRET)
    row = ApiKey.objects.get()

    staff("view_apikey", "add_apikey").post(
        LIST, {"action": "revoke", "_selected_action": [row.pk]}
    )

    row.refresh_from_db()
    assert row.revoked_at is None


def test_whoever_may_make_and_see_keys_can_replace_one(staff, replace, tenant):
    create_key(tenant, ApiKey.Kind.SECRET)

    page = replace(ApiKey.objects.get(), client=staff("view_apikey", "add_apikey"))

    assert KEY.search(page.text)


# --- made by command


def test_the_command_prints_a_key_that_works_and_keeps_its_name(client, tenant, capsys):
    call_command("create_api_key", "acme", "secret", "--name", "nightly export")

    assert works(client, capsys.readouterr().out.strip())
    assert ApiKey.objects.get().name == "nightly export"


def test_the_command_names_the_tenants_there_are(tenant):
    with pytest.raises(CommandError, match="There are: acme"):
        call_command("create_api_key", "acne", "secret")


# --- what a key opens: over every route there is


@pytest.fixture
def credentials(tenant):
    """What a tenant's callers show, one of each kind."""
    return {
        "publishable": create_key(tenant, ApiKey.Kind.PUBLISHABLE),
        "secret": create_key(tenant, ApiKey.Kind.SECRET),
        "page": page_key(tenant),
    }


OPENS = {"publishable": PUBLISHABLE, "page": PUBLISHABLE, "secret": set(SECRET)}


def test_the_routes_are_the_ones_we_know():
    assert {*PUBLISHABLE, *MEMBER, "api/v1/credits/spend"} <= set(api_routes())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("kind", "route"),
    [(kind, route) for kind in OPENS for route in api_routes() if route not in OPENS[kind]],
)
def test_a_key_is_refused_where_another_kind_is_wanted(client, credentials, kind, route, method):
    answer = call(client, method, route, credentials[kind])

    assert answer.status_code == 401
    assert answer.json()["error"]["type"] in ("authentication_failed", "invalid_member_token")


@pytest.mark.parametrize(
    ("kind", "route"), [(kind, route) for kind in OPENS for route in sorted(OPENS[kind])]
)
def test_a_key_passes_where_its_kind_is_wanted(client, credentials, kind, route):
    answers = [call(client, method, route, credentials[kind]) for method in ("get", "post")]

    assert 401 not in [answer.status_code for answer in answers]


@pytest.mark.parametrize("way", ["revoked", "tenant disabled"])
@pytest.mark.parametrize(
    ("kind", "route"), [(kind, route) for kind in OPENS for route in sorted(OPENS[kind])]
)
def test_a_key_taken_back_is_refused_at_the_next_call(client, credentials, kind, route, way):
    if way == "revoked":
        # A page's key stands for the tenant and is not among those that can be revoked.
        ApiKey.objects.update(revoked_at=timezone.now())
    else:
        Tenant.objects.update(is_active=False)

    answers = [call(client, method, route, credentials[kind]) for method in ("get", "post")]

    passes = kind == "page" and way == "revoked"
    assert {answer.status_code == 401 for answer in answers} == {not passes}


@pytest.mark.parametrize("route", api_routes())
def test_a_key_outside_its_header_opens_nothing(client, credentials, route):
    for key in credentials.values():
        names = ("key", "api_key", "access_token", "token", "Authorization")
        query = "?" + "&".join(f"{name}={key}" for name in names)
        fields = dict.fromkeys(names, key)

        answers = [
            call(client, "get", route, query=query),
            call(client, "post", route, query=query, **fields),
            client.post(f"/{route}", fields),
            client.get(f"/{route}", headers={"Authorization": f"Basic {key}", "X-Api-Key": key}),
        ]

        assert {answer.status_code for answer in answers} == {401}


def test_a_pages_key_lasts_a_day(client, credentials):
    with time_machine.travel(timezone.now() + timedelta(hours=24, seconds=1)):
        answer = call(client, "post", "api/purchases/exchange", credentials["page"])

    assert answer.status_code == 401


@pytest.mark.parametrize(
    "change", [str.upper, lambda key: key[:-1], lambda key: f"{key}x", lambda key: f"{key} "]
)
def test_a_key_is_compared_to_the_letter(client, credentials, change):
    assert not works(client, change(credentials["secret"]))


def test_the_use_of_a_key_is_noted(client, credentials):
    works(client, credentials["secret"])

    used = ApiKey.objects.exclude(last_used_at=None)
    assert [key.kind for key in used] == ["secret"]
