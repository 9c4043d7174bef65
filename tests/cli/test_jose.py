"""A member token in the hands of others: JavaScript's `jose`, with nothing but the key set."""

import base64
import json
import subprocess
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone

from tests.conftest import TENANT_ID
from tests.server import running_server

SCRIPT = Path(__file__).parent / "verify.mjs"
ISSUER = "http://testserver"


@pytest.fixture
def verify(signed_in):
    """Ask a Node.js of its own what it makes of a token: its claims, or why it refuses it."""

    def verify(token, *, issuer=ISSUER, audience=TENANT_ID, now=""):
        done = subprocess.run(
            ["node", SCRIPT, f"{server.url}/.well-known/jwks.json", issuer, audience, now],
            input=token,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    with running_server(workers=1) as server:
        yield verify


def base64url(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def parts_of(token):
    header, claims, signature = token.split(".")
    return [json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in (header, claims)] + [
        signature
    ]


@pytest.mark.django_db(transaction=True)
def test_jose_accepts_a_members_token(verify, signed_in):
    claims = verify(signed_in["jwt"])["claims"]

    assert claims["sub"] == signed_in["member"]["id"]
    assert claims["products"] == ["archive", "newsletter"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"audience": str(uuid.UUID(int=1))}, "ERR_JWT_CLAIM_VALIDATION_FAILED"),
        ({"issuer": "https://elsewhere.example"}, "ERR_JWT_CLAIM_VALIDATION_FAILED"),
        ({"now": (timezone.now() + timedelta(minutes=30)).isoformat()}, "ERR_JWT_EXPIRED"),
        (
            {"now": (timezone.now() - timedelta(minutes=30)).isoformat()},
            "ERR_JWT_CLAIM_VALIDATION_FAILED",
        ),
    ],
    ids=["audience", "issuer", "expired", "not yet valid"],
)
def test_jose_refuses_what_is_not_for_it_or_not_for_now(verify, signed_in, asked, code):
    assert verify(signed_in["jwt"], **asked) == {"refused": code}


@pytest.mark.django_db(transaction=True)
def test_jose_refuses_forgeries(verify, signed_in):
    header, claims, signature = parts_of(signed_in["jwt"])
    forgeries = {
        "tampered": (header, {**claims, "products": ["everything"]}, signature),
        "no algorithm": ({**header, "alg": "none"}, claims, ""),
        "unknown key": ({**header, "kid": "unknown"}, claims, signature),
    }

    refused = {
        name: verify(f"{base64url(head)}.{base64url(body)}.{end}")["refused"]
        for name, (head, body, end) in forgeries.items()
    }

    assert refused == {
        "tampered": "ERR_JWS_SIGNATURE_VERIFICATION_FAILED",
        "no algorithm": "ERR_JOSE_ALG_NOT_ALLOWED",
        "unknown key": "ERR_JWKS_NO_MATCHING_KEY",
    }


@pytest.mark.django_db(transaction=True)
def test_jose_accepts_the_old_key_in_a_rotation_and_not_after_a_leak(verify, signed_in, refresh):
    call_command("rotate_signing_key")
    assert "claims" in verify(signed_in["jwt"])

    call_command("rotate_signing_key", "--now")

    assert verify(signed_in["jwt"]) == {"refused": "ERR_JWKS_NO_MATCHING_KEY"}
    assert "claims" in verify(refresh(signed_in["refresh_token"]).json()["jwt"])
