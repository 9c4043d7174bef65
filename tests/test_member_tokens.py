"""Who a browser is: the member token that anyone can verify and the refresh token behind it."""

import base64
import hmac
import json
import uuid
from datetime import datetime, timedelta

import jwt
import pytest
import time_machine
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.conf import settings
from django.utils import timezone

from purchases.models import Entitlement, Product
from tenants.keys import create_key
from tenants.models import ApiKey, Member, MemberSession, SigningKey, Tenant
from tests.conftest import TENANT_ID, changed, stripe_event
from tests.server import post, running_server

SECOND = stripe_event("checkout.session.completed.no_cost_paid")


@pytest.fixture
def entitlements(client, db):
    def entitlements(token, query=""):
        return client.get(f"/api/entitlements{query}", headers={"Authorization": f"Bearer {token}"})

    return entitlements


def slugs(answer):
    return sorted(entitlement["product"] for entitlement in answer.json()["data"])


def assert_refused(answer):
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_member_token"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


# --- what a token says


def verified(client, token):
    """The claims, checked as a tenant's server does: with what is published and nothing else."""
    published = client.get("/.well-known/openid-configuration").json()
    keys = jwt.PyJWKSet.from_dict(client.get("/.well-known/jwks.json").json())
    return jwt.decode(
        token,
        keys[jwt.get_unverified_header(token)["kid"]],
        algorithms=published["id_token_signing_alg_values_supported"],
        issuer=published["issuer"],
        audience=TENANT_ID,
    )


def test_a_token_verifies_with_the_published_keys_alone(client, signed_in):
    claims = verified(client, signed_in["jwt"])

    assert claims["iss"] == "http://testserver"
    assert claims["aud"] == TENANT_ID
    assert claims["sub"] == signed_in["member"]["id"] == str(Member.objects.get().id)
    assert claims["products"] == ["archive", "newsletter"]
    assert claims["authenticated"] is True
    assert claims["exp"] - claims["iat"] == 15 * 60
    assert claims["nbf"] == claims["iat"]
    assert claims["jti"]


def test_a_tokens_header_names_its_key_and_its_type(signed_in):
    assert jwt.get_unverified_header(signed_in["jwt"]) == {
        "alg": "RS256",
        "typ": "JWT",
        "kid": SigningKey.objects.get().kid,
    }


def test_the_answer_says_when_the_token_expires(client, signed_in):
    claims = verified(client, signed_in["jwt"])

    expires_at = datetime.fromisoformat(signed_in["expires_at"])
    assert expires_at.timestamp() == claims["exp"]


def test_the_published_configuration_leads_to_the_keys(client, db):
    answer = client.get("/.well-known/openid-configuration")

    assert answer.json()["issuer"] == settings.ALLEGRO_URL
    assert answer.json()["jwks_uri"] == f"{settings.ALLEGRO_URL}/.well-known/jwks.json"


def test_the_published_keys_are_public_halves_only(client, signed_in):
    (key,) = client.get("/.well-known/jwks.json").json()["keys"]

    assert key.keys() == {"kty", "key_ops", "n", "e", "kid", "use", "alg"}


def test_a_token_ends_after_a_quarter_of_an_hour(entitlements, signed_in):
    with time_machine.travel(timezone.now() + timedelta(minutes=15)):
        answer = entitlements(signed_in["jwt"])

    assert_refused(answer)


def test_a_library_finds_the_keys_over_the_network(allegro, signed_in):
    keys = jwt.PyJWKClient(f"{allegro.url}/.well-known/jwks.json")
    key = keys.get_signing_key_from_jwt(signed_in["jwt"])

    claims = jwt.decode(
        signed_in["jwt"], key, algorithms=["RS256"], audience=TENANT_ID, issuer="http://testserver"
    )
    assert claims["sub"] == signed_in["member"]["id"]
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(signed_in["jwt"], key, algorithms=["RS256"], audience=str(uuid.uuid4()))


# --- refreshing


def test_refreshing_gives_the_next_pair(refresh, entitlements, signed_in):
    answer = refresh(signed_in["refresh_token"])

    assert answer.status_code == 200
    assert answer.json().keys() == {"jwt", "expires_at", "refresh_token"}
    assert answer.json()["refresh_token"] != signed_in["refresh_token"]
    assert slugs(entitlements(answer.json()["jwt"])) == ["archive", "newsletter"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_chain_of_refreshes_goes_on(refresh, signed_in):
    second = refresh(signed_in["refresh_token"]).json()
    third = refresh(second["refresh_token"]).json()

    assert refresh(third["refresh_token"]).status_code == 200
    assert MemberSession.objects.count() == 1


def test_a_refresh_token_used_twice_ends_the_session_for_both(refresh, entitlements, signed_in):
    following = refresh(signed_in["refresh_token"]).json()

    answer = refresh(signed_in["refresh_token"])

    assert_refused(answer)
    assert_refused(refresh(following["refresh_token"]))
    assert_refused(entitlements(following["jwt"]))


def test_a_refreshed_token_names_the_products_as_they_are_now(client, refresh, signed_in):
    Entitlement.objects.filter(product__slug="archive").update(revoked_at=timezone.now())

    answer = refresh(signed_in["refresh_token"])

    assert verified(client, answer.json()["jwt"])["products"] == ["newsletter"]


def test_a_session_ends_after_thirty_days_without_a_refresh(refresh, signed_in):
    with time_machine.travel(timezone.now() + timedelta(days=30)):
        answer = refresh(signed_in["refresh_token"])

    assert_refused(answer)


def test_a_refresh_prolongs_the_session(refresh, signed_in):
    with time_machine.travel(timezone.now() + timedelta(days=29)):
        following = refresh(signed_in["refresh_token"]).json()
    with time_machine.travel(timezone.now() + timedelta(days=58)):
        answer = refresh(following["refresh_token"])

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "token",
    ["x", ".", "not-a-uuid.secret", "\x00", f"{uuid.UUID(int=1).hex}.secret", "é.é", "\ud800.x"],
)
def test_a_refresh_token_that_was_never_ours_is_refused(refresh, token):
    assert refresh(token).status_code in (400, 401)


def test_a_wrong_secret_of_a_known_family_is_refused(refresh, signed_in):
    family, _, _ = signed_in["refresh_token"].partition(".")

    assert_refused(refresh(f"{family}.guess"))


def test_the_database_holds_no_refresh_token(refresh, signed_in):
    following = refresh(signed_in["refresh_token"]).json()["refresh_token"]

    row = str(MemberSession.objects.values().get())

    assert following.partition(".")[2] not in row
    assert signed_in["refresh_token"].partition(".")[2] not in row


# --- access, read live


def ended():
    return {"ends_at": timezone.now(), "starts_at": timezone.now() - timedelta(days=1)}


@pytest.mark.parametrize(
    "change",
    [
        lambda: {"revoked_at": timezone.now()},
        lambda: {"suspended_at": timezone.now()},
        ended,
        lambda: {"starts_at": timezone.now() + timedelta(hours=1)},
    ],
    ids=["revoked", "suspended", "ended", "not started"],
)
def test_access_taken_back_is_gone_at_the_next_call(entitlements, signed_in, change):
    assert slugs(entitlements(signed_in["jwt"])) == ["archive", "newsletter"]

    Entitlement.objects.filter(product__slug="archive").update(**change())

    assert slugs(entitlements(signed_in["jwt"])) == ["newsletter"]


def test_access_granted_later_is_there_at_the_next_call(
    entitlements, deliver, open_checkout, signed_in
):
    second = changed(SECOND, **paid_like())
    for_good(open_checkout(second["data"]["object"]["id"], member=Member.objects.get()))

    deliver(second)

    assert slugs(entitlements(signed_in["jwt"])) == [
        "archive",
        "archive",
        "newsletter",
        "newsletter",
    ]


def for_good(checkout):
    """Sell without an end, so that the period runs beside the others and not after them."""
    checkout.snapshot["duration"] = ""
    checkout.save()


def paid_like():
    """What makes the second session cost what the plan does."""
    return {"amount_subtotal": 25000, "amount_total": 25000, "payment_status": "paid"}


def test_a_session_that_was_revoked_is_refused_at_the_next_call(entitlements, signed_in):
    MemberSession.objects.update(revoked_at=timezone.now())

    assert_refused(entitlements(signed_in["jwt"]))


def test_a_tenant_that_was_disabled_is_refused_at_the_next_call(entitlements, refresh, signed_in):
    Tenant.objects.update(is_active=False)

    assert_refused(entitlements(signed_in["jwt"]))
    assert_refused(refresh(signed_in["refresh_token"]))


def test_a_session_that_proves_nothing_sees_its_own_purchase_only(
    client, exchange, entitlements, refresh, deliver, checkout, open_checkout, paid_event
):
    earlier = changed(SECOND, **paid_like())
    for_good(open_checkout(earlier["data"]["object"]["id"]))
    deliver(earlier)
    deliver(paid_event)

    answer = exchange().json()

    assert verified(client, answer["jwt"])["authenticated"] is False
    assert {entitlement["purchase"] for entitlement in answer["entitlements"]} == {
        answer["purchase"]["id"]
    }
    assert entitlements(answer["jwt"]).json()["data"] == answer["entitlements"]
    following = refresh(answer["refresh_token"]).json()
    assert entitlements(following["jwt"]).json()["data"] == answer["entitlements"]
    assert Entitlement.objects.active().count() == 2 * len(answer["entitlements"])


def test_a_member_sees_nobody_elses(entitlements, signed_in, tenant):
    neighbor = Member.objects.create(tenant=tenant, email="neighbor@example.com")
    Entitlement.objects.update(member=neighbor)

    assert slugs(entitlements(signed_in["jwt"])) == []


@pytest.fixture
def many(signed_in):
    """Enough for three pages of ten: 25 products granted by hand, and the two bought."""
    member = Member.objects.get()
    for number in range(25):
        product = Product.objects.create(tenant=member.tenant, slug=f"book-{number}", name="Book")
        Entitlement.objects.create(
            tenant=member.tenant, member=member, product=product, starts_at=timezone.now()
        )
    return signed_in


@pytest.mark.parametrize(
    ("query", "rows", "expected"),
    [
        ("", 20, (1, 20, 27, 2, True, False)),
        ("?page=2", 7, (2, 20, 27, 2, False, True)),
        ("?per_page=10&page=2", 10, (2, 10, 27, 3, True, True)),
        ("?per_page=1000", 27, (1, 100, 27, 1, False, False)),
        ("?per_page=nonsense", 20, (1, 20, 27, 2, True, False)),
    ],
)
def test_entitlements_come_in_pages(entitlements, many, query, rows, expected):
    answer = entitlements(many["jwt"], query).json()

    pagination = answer["meta"]["pagination"]
    assert len(answer["data"]) == rows
    assert tuple(pagination.values()) == expected
    assert list(pagination) == [
        "current_page",
        "per_page",
        "total",
        "total_pages",
        "has_next",
        "has_prev",
    ]


def test_the_pages_hold_each_entitlement_once(entitlements, many):
    pages = [entitlements(many["jwt"], f"?per_page=10&page={page}") for page in (1, 2, 3)]

    ids = [entitlement["id"] for page in pages for entitlement in page.json()["data"]]
    assert len(ids) == len(set(ids)) == 27


@pytest.mark.parametrize("page", ["0", "99", "x", "-1"])
def test_a_page_that_is_not_there_is_a_404_in_the_envelope(entitlements, many, page):
    answer = entitlements(many["jwt"], f"?page={page}")

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found"


# --- forgeries


@pytest.fixture
def our_key(signed_in):
    """A key of ours whose private half the forger has, so that all else can be tried alone.

    It is being retired: its signatures still count, but nothing new is signed with it.
    """
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    SigningKey.objects.create(
        kid="known",
        private_key_encrypted=b"",
        public_key=public_pem(private).decode(),
        active_from=timezone.now() - timedelta(days=1),
        retired_at=timezone.now() + timedelta(days=1),
    )
    return private


def public_pem(private):
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_rsa(private, signed):
    return private.sign(signed, padding.PKCS1v15(), hashes.SHA256())


def by_rsa_sha512(private, signed):
    return private.sign(signed, padding.PKCS1v15(), hashes.SHA512())


def by_hmac_with_the_public_key(private, signed):
    return hmac.digest(public_pem(private), signed, "sha256")


def by_hmac_with_the_public_jwk(private, signed):
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key())
    return hmac.digest(jwk.encode(), signed, "sha256")


def by_rsa_pss(private, signed):
    salted = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return private.sign(signed, salted, hashes.SHA256())


def by_another_key(private, signed):
    return by_rsa(rsa.generate_private_key(public_exponent=65537, key_size=2048), signed)


def by_nobody(private, signed):
    return b""


@pytest.fixture
def forge(our_key, signed_in):
    """A token with other claims or another header than the real one's; `...` leaves one out.

    Written out by hand: a JWT library refuses to make most of these.
    """
    real = jwt.decode(signed_in["jwt"], options={"verify_signature": False})

    def forge(claims=None, header=None, signed_by=by_rsa):
        header = {"alg": "RS256", "typ": "JWT", "kid": "known", **(header or {})}
        claims = {**real, **(claims or {})}
        parts = [
            base64url(json.dumps({k: v for k, v in part.items() if v is not ...}).encode())
            for part in (header, claims)
        ]
        signed = ".".join(parts)
        return f"{signed}.{base64url(signed_by(our_key, signed.encode()))}"

    return forge


def test_the_forger_could_make_a_good_token(forge, entitlements):
    assert entitlements(forge()).status_code == 200


HOUR = 3600
CLAIMS = {
    "another audience": lambda now: {"aud": str(uuid.uuid4())},
    "a list of audiences": lambda now: {"aud": [TENANT_ID]},
    "no audience": lambda now: {"aud": ...},
    "another issuer": lambda now: {"iss": "https://elsewhere.example"},
    "no issuer": lambda now: {"iss": ...},
    "expired": lambda now: {"exp": now - 1},
    "no end": lambda now: {"exp": ...},
    "an end that is no number": lambda now: {"exp": "tomorrow"},
    "not yet begun": lambda now: {"nbf": now + HOUR},
    "issued in the future": lambda now: {"iat": now + HOUR},
    "another member": lambda now: {"sub": str(uuid.uuid4())},
    "a member that is a number": lambda now: {"sub": 1},
    "no session": lambda now: {"sid": ...},
    "an unknown session": lambda now: {"sid": str(uuid.uuid4())},
}


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS.keys())
def test_a_token_with_other_claims_is_refused(forge, entitlements, claims):
    token = forge(claims(int(timezone.now().timestamp())))

    assert_refused(entitlements(token))


HEADERS = {
    "no algorithm": ({"alg": "none"}, by_nobody),
    "no algorithm, shouted": ({"alg": "NONE"}, by_nobody),
    "no algorithm, stammered": ({"alg": "nOnE"}, by_nobody),
    "no algorithm though signed": ({"alg": "none"}, by_rsa),
    "no signature": ({}, by_nobody),
    "the public key as a shared secret": ({"alg": "HS256"}, by_hmac_with_the_public_key),
    "the public JWK as a shared secret": ({"alg": "HS256"}, by_hmac_with_the_public_jwk),
    "another algorithm": ({"alg": "RS512"}, by_rsa_sha512),
    "another padding": ({"alg": "PS256"}, by_rsa_pss),
    "another padding under our algorithm's name": ({}, by_rsa_pss),
    "an algorithm nobody knows": ({"alg": "XX256"}, by_rsa),
    "another key under a known name": ({}, by_another_key),
    "an unknown key": ({"kid": "unknown"}, by_rsa),
    "no key": ({"kid": ...}, by_rsa),
    "NUL": ({"kid": "known\x00"}, by_rsa),
    "a list": ({"kid": ["known"]}, by_rsa),
    "an object": ({"kid": {"known": "known"}}, by_rsa),
    "a number": ({"kid": 1}, by_rsa),
    "null": ({"kid": None}, by_rsa),
    "a path": ({"kid": "../../../../dev/null"}, by_rsa),
    "a query": ({"kid": "' OR 1=1 --"}, by_rsa),
    "a lone surrogate": ({"kid": "\ud800"}, by_rsa),
    "another type": ({"typ": "at+jwt"}, by_rsa),
    "no type": ({"typ": ...}, by_rsa),
    "an extension we don't know": ({"crit": ["exp2"], "exp2": 1}, by_rsa),
}


@pytest.mark.parametrize(("header", "signed_by"), HEADERS.values(), ids=HEADERS.keys())
def test_a_token_with_another_header_is_refused(forge, entitlements, header, signed_by):
    token = forge(header=header, signed_by=signed_by)

    assert_refused(entitlements(token))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
@pytest.mark.parametrize("kid", ["known", "their own", ...])
def test_a_token_that_brings_its_own_key_is_refused(forge, entitlements, name, kid):
    forger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    own = jwt.algorithms.RSAAlgorithm.to_jwk(forger.public_key(), as_dict=True)
    key = {
        "jwk": own,
        # A port that nobody listens on: whoever asked there would fail otherwise than by a 401.
        "jku": "http://127.0.0.1:1/jwks.json",
        "x5u": "http://127.0.0.1:1/cert.pem",
        "x5c": [base64.b64encode(public_pem(forger)).decode()],
    }[name]

    token = forge(
        header={name: key, "kid": kid}, signed_by=lambda _, signed: by_rsa(forger, signed)
    )

    assert_refused(entitlements(token))


def test_a_token_whose_claims_were_changed_is_refused(signed_in, entitlements):
    header, claims, signature = signed_in["jwt"].split(".")
    padded = base64.urlsafe_b64decode(claims + "==")
    more = base64url(padded.replace(b'"authenticated":true', b'"authenticated": true'))

    assert_refused(entitlements(f"{header}.{more}.{signature}"))


@pytest.mark.parametrize(
    "token", ["x", "a.b.c", "..", "é", "\x01", "x" * 4000, "a.b.c.d.e", "bnVsbA.bnVsbA.bnVsbA"]
)
def test_what_is_no_token_at_all_is_refused(entitlements, token):
    assert_refused(entitlements(token))


def test_a_session_of_another_member_is_refused(forge, entitlements, tenant):
    neighbor = Member.objects.create(tenant=tenant, email="neighbor@example.com")
    theirs = MemberSession.objects.create(
        member=neighbor,
        authenticated=True,
        refresh_family=uuid.uuid4(),
        expires_at=timezone.now() + timedelta(days=1),
    )

    assert_refused(entitlements(forge({"sid": str(theirs.id)})))


def session_elsewhere(account):
    """Of a member of another tenant."""
    stranger = Member.objects.create(tenant=account.tenant, email="stranger@example.com")
    return MemberSession.objects.create(
        member=stranger,
        authenticated=True,
        refresh_family=uuid.uuid4(),
        expires_at=timezone.now() + timedelta(days=1),
    )


@pytest.mark.parametrize(
    "taken",
    [["sid"], ["sub"], ["aud"], ["sub", "sid"], ["sid", "aud"], ["sub", "aud"]],
    ids=" and ".join,
)
def test_what_belongs_to_two_tenants_is_refused(forge, entitlements, other_account, taken):
    theirs = session_elsewhere(other_account)
    claims = {
        "sid": str(theirs.id),
        "sub": str(theirs.member_id),
        "aud": str(theirs.member.tenant_id),
    }

    assert_refused(entitlements(forge({name: claims[name] for name in taken})))


@pytest.mark.parametrize("spoiled", ["{}.", ".{}", "{}.x", "{}..", "{}\x00", "{} x", "{}A"])
def test_a_real_token_with_more_before_or_after_it_is_refused(signed_in, entitlements, spoiled):
    assert_refused(entitlements(spoiled.format(signed_in["jwt"])))


def test_a_huge_token_is_refused(forge, entitlements):
    assert_refused(entitlements(forge({"padding": "x" * 1_000_000}, {"kid": "x" * 100_000})))


def test_a_token_of_a_retired_key_is_refused_and_its_key_published_no_more(
    client, forge, entitlements
):
    token = forge()
    SigningKey.objects.filter(kid="known").update(retired_at=timezone.now())

    answer = entitlements(token)

    assert_refused(answer)
    keys = client.get("/.well-known/jwks.json").json()["keys"]
    assert "known" not in [key["kid"] for key in keys]


def test_a_key_that_is_not_active_yet_is_not_accepted(forge, entitlements):
    token = forge()
    SigningKey.objects.filter(kid="known").update(active_from=timezone.now() + timedelta(hours=1))

    assert_refused(entitlements(token))


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic eDp5", "sk_x"])
def test_no_token_is_a_401_in_the_envelope(client, db, authorization):
    headers = {"Authorization": authorization} if authorization is not None else {}

    answer = client.get("/api/entitlements", headers=headers)

    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "not_authenticated"
    assert "`Authorization: Bearer …`" in answer.json()["error"]["message"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("kind", list(ApiKey.Kind))
def test_a_tenants_key_is_no_member_token(entitlements, tenant, kind):
    assert_refused(entitlements(create_key(tenant, kind)))


def test_a_token_in_the_address_opens_nothing(client, signed_in):
    answer = client.get("/api/entitlements", {"token": signed_in["jwt"]})

    assert answer.status_code == 401


# --- the key at rest


def test_the_private_key_is_encrypted_at_rest(signed_in):
    row = SigningKey.objects.get()

    stored = bytes(row.private_key_encrypted)
    assert b"PRIVATE" not in stored + base64.urlsafe_b64decode(stored)
    assert "PRIVATE" not in row.public_key


@pytest.mark.django_db(transaction=True)
def test_the_signing_key_survives_a_change_of_the_secret_key(client, signed_in):
    # A process of its own: in this one the decrypted key may still be in memory.
    changed_secret = {
        "SECRET_KEY": "the-next-secret-key-that-protects-nothing-0123456789",
        "SECRET_KEY_FALLBACKS": settings.SECRET_KEY,
    }

    with running_server(workers=1, env=changed_secret) as server:
        answer = post(
            f"{server.url}/api/members/token/refresh",
            json.dumps({"refresh_token": signed_in["refresh_token"]}),
            {"Content-Type": "application/json"},
        )

    assert answer.status == 200
    assert SigningKey.objects.count() == 1
    assert verified(client, json.loads(answer.body)["jwt"])["sub"] == signed_in["member"]["id"]
