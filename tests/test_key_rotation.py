"""A new signing key: known to verifiers before it signs, and nobody is signed out for it."""

import re
from datetime import timedelta

import jwt
import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tenants.models import SigningKey
from tests.conftest import TENANT_ID
from tests.test_concurrency import at_once

CACHED = timedelta(minutes=5)  # for how long a verifier keeps its copy of the key set
LIFETIME = timedelta(minutes=15)  # of a token
MARGIN = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def rotate(capsys):
    def rotate(*arguments):
        call_command("rotate_signing_key", *arguments)
        return capsys.readouterr().out

    return rotate


@pytest.fixture
def key_set(client, db):
    """What a verifier fetches."""
    return lambda: client.get("/.well-known/jwks.json").json()


@pytest.fixture
def accepted(client, db):
    def accepted(token):
        headers = {"Authorization": f"Bearer {token}"}
        return client.get("/api/entitlements", headers=headers).status_code == 200

    return accepted


def kid_of(token):
    return jwt.get_unverified_header(token)["kid"]


def kids(key_set):
    return {key["kid"] for key in key_set["keys"]}


def verify(token, key_set):
    key = jwt.PyJWKSet.from_dict(key_set)[kid_of(token)]
    return jwt.decode(token, key, algorithms=["RS256"], audience=TENANT_ID)


def after(delay):
    return time_machine.travel(timezone.now() + delay, tick=False)


def test_the_copy_of_the_key_set_is_kept_as_long_as_the_new_key_waits(client, rotate, signed_in):
    before = timezone.now()

    rotate()

    new = SigningKey.objects.latest("active_from")
    assert client.get("/.well-known/jwks.json").headers["Cache-Control"] == "public, max-age=300"
    assert new.active_from - before >= CACHED


def test_a_new_key_is_published_at_once_and_signs_when_copies_have_it(
    rotate, key_set, refresh, signed_in
):
    old = kid_of(signed_in["jwt"])

    rotate()

    published = kids(key_set())
    (new,) = published - {old}
    during = refresh(signed_in["refresh_token"]).json()
    with after(CACHED + MARGIN):
        following = refresh(during["refresh_token"]).json()
    assert [kid_of(during["jwt"]), kid_of(following["jwt"])] == [old, new]


def test_no_verifier_meets_a_token_that_its_copy_cannot_check(rotate, key_set, refresh, signed_in):
    """Every minute of a rotation: a new token is checked with a copy as old as may be."""
    start, answer = timezone.now(), signed_in
    copies = dict.fromkeys(range(-4, 0), key_set())
    rotate()

    for minute in range(30):
        with time_machine.travel(start + timedelta(minutes=minute, seconds=1), tick=False):
            copies[minute] = key_set()
            answer = refresh(answer["refresh_token"]).json()
            for age in range(5):
                assert verify(answer["jwt"], copies[minute - age])["aud"] == TENANT_ID


def test_the_last_token_of_the_old_key_is_accepted_to_its_end(
    rotate, key_set, refresh, accepted, signed_in
):
    old = kid_of(signed_in["jwt"])
    rotate()
    turn = SigningKey.objects.latest("active_from").active_from

    with time_machine.travel(turn - SECOND, tick=False):
        last = refresh(signed_in["refresh_token"]).json()["jwt"]
    assert kid_of(last) == old
    with time_machine.travel(turn + LIFETIME - 3 * SECOND, tick=False):
        assert accepted(last)
        assert verify(last, key_set())
    with time_machine.travel(turn + LIFETIME + MARGIN, tick=False):
        assert old not in kids(key_set())


def test_a_key_does_not_count_before_it_signs(rotate, key_set, accepted, signed_in):
    old = SigningKey.objects.get()
    rotate()
    # What it will sign, today: the row of the new key takes the place of the old one.
    new = SigningKey.objects.exclude(pk=old.pk).get()
    SigningKey.objects.filter(pk=old.pk).update(active_from=new.active_from, retired_at=None)

    assert old.kid in kids(key_set())
    assert not accepted(signed_in["jwt"])


def test_a_rotation_waits_for_the_one_before(rotate, signed_in):
    rotate()

    with pytest.raises(CommandError, match=r"under way until .* UTC\. Wait for it"):
        rotate()
    with after(CACHED + MARGIN), pytest.raises(CommandError, match="under way"):
        rotate()

    assert SigningKey.objects.count() == 2
    with after(CACHED + LIFETIME + 2 * MARGIN):
        rotate()
    assert SigningKey.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_of_two_rotations_at_once_one_goes_through(signed_in):
    def rotate():
        try:
            call_command("rotate_signing_key")
        except CommandError as error:
            return str(error)
        finally:
            connection.close()
        return "done"

    outcomes = at_once([rotate, rotate])

    assert sorted("under way" in outcome for outcome in outcomes) == [False, True]
    assert SigningKey.objects.count() == 2


def test_a_leaked_key_is_refused_from_this_moment_on(rotate, key_set, refresh, accepted, signed_in):
    rotate("--now")

    assert not accepted(signed_in["jwt"])
    assert kid_of(signed_in["jwt"]) not in kids(key_set())
    following = refresh(signed_in["refresh_token"]).json()["jwt"]
    assert accepted(following)
    assert verify(following, key_set())


def test_a_leak_ends_the_rotation_under_way(rotate, key_set, refresh, signed_in):
    rotate()
    waiting = kids(key_set())

    rotate("--now")

    (only,) = kids(key_set())
    assert only not in waiting
    with after(timedelta(hours=1)):
        following = refresh(signed_in["refresh_token"]).json()["jwt"]
        assert kids(key_set()) == {only} == {kid_of(following)}


def test_the_overlap_can_be_chosen(rotate, refresh, signed_in):
    rotate("--overlap", "3600")

    with after(timedelta(minutes=59)):
        during = refresh(signed_in["refresh_token"]).json()
    with after(timedelta(minutes=61)):
        following = refresh(during["refresh_token"]).json()
    assert kid_of(during["jwt"]) == kid_of(signed_in["jwt"]) != kid_of(following["jwt"])


@pytest.mark.parametrize("overlap", ["-1", "soon", "1.5", "9" * 30, "2592001", ""])
def test_an_impossible_overlap_is_refused(db, overlap):
    with pytest.raises(CommandError, match="overlap"):
        call_command("rotate_signing_key", f"--overlap={overlap}")

    assert not SigningKey.objects.exists()


def test_a_leaked_key_has_no_overlap(db):
    with pytest.raises(CommandError, match="not allowed with"):
        call_command("rotate_signing_key", "--now", "--overlap=10")


@pytest.mark.parametrize("arguments", [(), ("--now",)])
def test_the_first_key_signs_at_once(rotate, exchange, deliver, checkout, paid_event, arguments):
    rotate(*arguments)
    deliver(paid_event)

    assert kid_of(exchange().json()["jwt"]) == SigningKey.objects.get().kid


def test_the_command_says_what_happens_when(rotate, signed_in):
    old = kid_of(signed_in["jwt"])

    said = rotate()

    new = SigningKey.objects.exclude(kid=old).get()
    retired_at = SigningKey.objects.get(kid=old).retired_at
    assert said.splitlines() == [
        f"Key {new.kid} is published and signs from {new.active_from:%Y-%m-%d %H:%M:%S} UTC.",
        f"Key {old} is accepted until {retired_at:%Y-%m-%d %H:%M:%S} UTC.",
    ]


def test_the_command_says_what_a_leak_still_means_elsewhere(rotate, signed_in):
    assert re.search(r"Other servers .* another 300 seconds", rotate("--now"))
