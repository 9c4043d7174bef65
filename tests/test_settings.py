"""A misconfigured deployment does not start, and says which variable to set."""

import ast
import os
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from django.core.checks import ERROR, WARNING, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from fulfillment.signatures import configured_secrets
from tests.server import running_server

ROOT = Path(__file__).parent.parent
REQUIRED = [
    "SECRET_KEY",
    "ALLEGRO_URL",
    "STRIPE_CONNECT_CLIENT_ID",
    "STRIPE_SECRET_KEY",
    "STRIPE_PUBLISHABLE_KEY",
]
READERS = {"required", "flag", "words", "one_of", "get", "getenv", "whole_number"}
GOOD_SECRET = "whsec_test_allegro0000000000000000"
LIVE_KEY = "sk_live_allegro0000000000000000"


def settings_with(**environ):
    """What the settings module makes of these variables.

    An empty variable stands for a missing one: a developer's `.env` would fill in the latter.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        return runpy.run_path(ROOT / "allegro" / "settings.py")


def setting(name, **environ):
    return settings_with(**environ)[name]


def refusal(**environ):
    """Why the settings refuse these variables."""
    with pytest.raises(ImproperlyConfigured) as refused:
        settings_with(**environ)
    return str(refused.value)


# --- variables


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_variable_stops_the_start_by_name(name):
    assert f"Set {name};" in refusal(**{name: ""})


def test_a_blank_variable_is_a_missing_one():
    assert "Set STRIPE_SECRET_KEY;" in refusal(STRIPE_SECRET_KEY="  ")


@pytest.mark.parametrize("value", ["yes", "1", "on", "treu"])
def test_a_flag_that_is_neither_true_nor_false_is_named(value):
    reason = refusal(DEBUG=value)

    assert "DEBUG" in reason
    assert repr(value) in reason


@pytest.mark.parametrize(
    ("value", "debug"), [("", False), ("false", False), ("True", True), ("TRUE", True)]
)
def test_debug_is_off_unless_it_is_true(value, debug):
    assert setting("DEBUG", DEBUG=value) is debug


def test_a_choice_that_there_is_not_is_named_with_those_there_are():
    reason = refusal(STRIPE_WEBHOOK_RESPONSES="sometimes")

    assert "STRIPE_WEBHOOK_RESPONSES is 'sometimes'" in reason
    assert "always_200, store_or_503, strict" in reason


def test_stripe_is_always_answered_200_unless_said_otherwise():
    assert setting("STRIPE_WEBHOOK_RESPONSES", STRIPE_WEBHOOK_RESPONSES="") == "always_200"


@pytest.mark.parametrize("key", [LIVE_KEY, "rk_live_allegro0000000000000000"])
def test_a_stand_in_for_stripe_is_refused_with_a_live_key(key):
    reason = refusal(STRIPE_SECRET_KEY=key, STRIPE_API_BASE="http://127.0.0.1:9")

    assert "STRIPE_API_BASE" in reason
    assert key not in reason


def test_notifications_into_the_own_network_are_refused_with_a_live_key():
    reason = refusal(STRIPE_SECRET_KEY=LIVE_KEY, NOTIFICATIONS_ALLOW_PRIVATE="true")

    assert "NOTIFICATIONS_ALLOW_PRIVATE" in reason


@pytest.mark.parametrize(
    ("key", "livemode"), [(LIVE_KEY, True), ("sk_test_x", False), ("rk_test_x", False)]
)
def test_the_secret_key_decides_the_mode(key, livemode):
    assert setting("STRIPE_LIVEMODE", STRIPE_SECRET_KEY=key) is livemode


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        ("", []),
        (" ", []),
        (",", []),
        (GOOD_SECRET, [GOOD_SECRET]),
        (f" {GOOD_SECRET}\n", [GOOD_SECRET]),
        (f"{GOOD_SECRET}, whsec_second ,", [GOOD_SECRET, "whsec_second"]),
    ],
)
def test_webhook_secrets_are_a_list_without_blanks(value, secrets, settings):
    settings.STRIPE_WEBHOOK_SECRET = value

    assert configured_secrets() == secrets


def test_the_webhook_secret_is_read_from_the_environment():
    assert setting("STRIPE_WEBHOOK_SECRET", STRIPE_WEBHOOK_SECRET="one,two") == "one,two"


@pytest.mark.parametrize(
    "address", ["mysql://u:hush@host/name", "postgresql+psycopg://u:hush@host/name", "db.sqlite3"]
)
def test_a_database_that_there_is_not_is_refused_without_showing_its_password(address):
    reason = refusal(DATABASE_URL=address)

    assert "DATABASE_URL" in reason
    assert "hush" not in reason


def test_what_a_database_address_asks_for_is_kept():
    url = "postgres://u@host/name?options=-csearch_path%3Dallegro"

    options = setting("DATABASES", DATABASE_URL=url)["default"]["OPTIONS"]["options"]

    assert options == "-csearch_path=allegro -c synchronous_commit=on"


def test_an_address_without_its_scheme_is_refused():
    assert "ALLEGRO_URL is 'allegro.example'" in refusal(ALLEGRO_URL="allegro.example")


def test_the_address_has_no_slash_at_its_end():
    assert setting("ALLEGRO_URL", ALLEGRO_URL="https://allegro.example/") == (
        "https://allegro.example"
    )


@pytest.mark.parametrize("name", ["SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE"])
def test_an_https_address_makes_everything_https(name):
    assert setting(name, ALLEGRO_URL="https://allegro.example") is True


def test_the_database_confirms_only_what_survives_a_power_cut(db):
    asked = {
        "sqlite": {"PRAGMA journal_mode": "wal", "PRAGMA synchronous": 2},
        "postgresql": {"SHOW synchronous_commit": "on", "SHOW fsync": "on"},
    }[connection.vendor]

    with connection.cursor() as cursor:
        answered = {question: cursor.execute(question).fetchone()[0] for question in asked}

    assert answered == asked


# --- .env.example


def variables_read():
    """The names of the environment variables that the settings read."""
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / "allegro" / "settings.py").read_text()))
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)
    ]
    return {
        call.args[0].value
        for call in calls
        if getattr(call.func, "id", getattr(call.func, "attr", "")) in READERS
    }


def variables_explained():
    """The variables of `.env.example`, each with the line above it."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return {
        line.partition("=")[0]: above
        for above, line in pairwise(lines)
        if "=" in line and not line.startswith("#")
    }


def test_the_settings_read_the_variables_that_the_tests_know():
    assert {*REQUIRED, "DEBUG", "DATABASE_URL", "STRIPE_WEBHOOK_SECRET"} <= variables_read()


def test_the_example_has_every_variable_and_no_other():
    assert variables_explained().keys() == variables_read()


@pytest.mark.parametrize("name", sorted(variables_read()))
def test_the_example_explains_each_variable(name):
    assert variables_explained()[name].startswith("# ")


def test_the_example_holds_no_key():
    text = (ROOT / ".env.example").read_text()

    assert re.findall(r"^\w*(?:KEY|SECRET)=.+", text, re.MULTILINE) == []


# --- system checks


def problems():
    return [(check.id, check.level) for check in run_checks() if check.id.startswith("fulf")]


def test_nothing_is_wrong_with_a_secret_from_stripe(settings):
    settings.STRIPE_WEBHOOK_SECRET = GOOD_SECRET

    assert problems() == []


def test_no_webhook_secret_is_an_error(settings):
    settings.STRIPE_WEBHOOK_SECRET = ""

    assert problems() == [("fulfillment.E001", ERROR)]


BAD_SECRETS = [
    "whsec_short",
    "whsec_19_characters",
    "whsec_changeme_changeme_changeme",
    "whsec_CHANGE_ME_0123456789abcdef",
    "whsec_replace_with_your_own_secret",
    "your_webhook_secret_from_stripe",
    "whsec_placeholder_0123456789",
    "whsec_example_0123456789abcd",
    "whsec_xxxxxxxxxxxxxxxxxxxxxxxx",
    "whsec_........................",
]


@pytest.mark.parametrize("secret", BAD_SECRETS)
def test_a_secret_that_can_be_none_is_an_error(settings, secret):
    settings.STRIPE_WEBHOOK_SECRET = secret

    assert problems() == [("fulfillment.E002", ERROR)]


def test_the_bad_one_among_several_secrets_is_named_by_its_number_and_not_shown(settings):
    settings.STRIPE_WEBHOOK_SECRET = f"{GOOD_SECRET},whsec_short"

    (problem,) = [check for check in run_checks() if check.id == "fulfillment.E002"]

    assert "Secret 2 " in problem.msg
    assert "whsec_short" not in str(problem)


@pytest.mark.parametrize(
    ("debug", "expected"), [(False, [("fulfillment.E004", ERROR)]), (True, [])]
)
def test_no_allowed_host_is_an_error_in_production(settings, debug, expected):
    settings.DEBUG, settings.ALLOWED_HOSTS = debug, []

    assert problems() == expected


@pytest.mark.parametrize("secret", ["", "whsec_short"])
def test_in_debug_a_missing_secret_is_a_warning(settings, secret):
    settings.DEBUG = True
    settings.STRIPE_WEBHOOK_SECRET = secret

    assert [level for _, level in problems()] == [WARNING]


def test_a_live_key_in_debug_is_an_error(settings):
    settings.DEBUG = True
    settings.STRIPE_LIVEMODE = True

    assert problems() == [("fulfillment.E003", ERROR)]


# --- the processes


def run(*command, **environ):
    """Run Python on the settings that these variables make, in a process of its own."""
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "allegro.settings", **environ}
    command = [sys.executable, *command]
    return subprocess.run(
        command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_application_refuses_to_load_with_a_placeholder():
    finished = run("-c", "import allegro.wsgi", STRIPE_WEBHOOK_SECRET=BAD_SECRETS[2])

    assert finished.returncode == 1
    assert "STRIPE_WEBHOOK_SECRET" in finished.stderr


def test_the_application_loads_without_a_secret_in_debug():
    finished = run("-c", "import allegro.wsgi", STRIPE_WEBHOOK_SECRET="", DEBUG="true")

    assert finished.returncode == 0


def test_the_production_server_refuses_to_start_without_a_secret():
    server = running_server(workers=1, env={"STRIPE_WEBHOOK_SECRET": ""})

    with pytest.raises(RuntimeError, match=r"fulfillment\.E001"), server:
        pass


def test_commands_refuse_to_run_without_a_secret():
    finished = run("manage.py", "check", STRIPE_WEBHOOK_SECRET="")

    assert finished.returncode == 1
    assert "fulfillment.E001" in finished.stderr


def test_the_checks_that_a_migration_runs_pass(db):
    assert [check for check in run_checks(databases=["default"]) if check.is_serious()] == []
