"""A publisher's own server: shows articles to members, sells by the credit, hears of purchases.

    export ALLEGRO_URL=https://allegro.example.com TENANT_ID=…
    export SECRET_KEY=sk_… NOTIFICATION_SECRET=whsec_…
    python server.py

It needs PyJWT (with cryptography) and standardwebhooks, and listens on 127.0.0.1:PORT.
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from standardwebhooks import Webhook, WebhookVerificationError

ALLEGRO = os.environ["ALLEGRO_URL"].rstrip("/")
TENANT = os.environ["TENANT_ID"]
SECRET_KEY = os.environ["SECRET_KEY"]
NOTIFICATIONS = Webhook(os.environ["NOTIFICATION_SECRET"])
PORT = int(os.environ.get("PORT", "9000"))
PRODUCT = "archive"

# Fetches Allegro's public keys once and keeps them: a token is verified without asking anybody.
KEYS = jwt.PyJWKClient(f"{ALLEGRO}/.well-known/jwks.json")
# What was heard, by webhook-id. A real server keeps this in a table with a unique column.
HEARD = {}


class Refused(Exception):
    def __init__(self, status, message):
        self.status, self.message = status, message


def member_of(authorization):
    """The id of the member whose token this is."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(401, "Send the member's token: Authorization: Bearer …")
    try:
        key = KEYS.get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            issuer=ALLEGRO,
            audience=TENANT,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except jwt.PyJWTError as error:
        raise Refused(401, "This token is not valid.") from error
    if not claims["authenticated"]:
        # Somebody bought with an e-mail that is a member's already, and did not prove to be them.
        raise Refused(403, "Sign in first.")
    return claims["sub"]


def allegro(path, body=None, **headers):
    """Call Allegro's API with the secret key; a body makes it a POST."""
    request = urllib.request.Request(
        f"{ALLEGRO}/api/v1/{path}",
        data=json.dumps(body).encode() if body else None,
        headers={
            "Authorization": f"Bearer {SECRET_KEY}",
            "Content-Type": "application/json",
            **headers,
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        reason = json.load(error)["error"]
        raise Refused(error.code, reason["message"]) from error


def show_article(member):
    query = urllib.parse.urlencode({"member": member, "product": PRODUCT})
    # Live, so a refund counts at once; the token's own `products` may be 15 minutes old.
    if not allegro(f"access?{query}")["access"]:
        raise Refused(403, "Subscribe to read on.")
    return {"article": "Once upon a time …"}


def download(member, order):
    """Take one credit. The same order takes it once, however often the browser asks."""
    key = {"Idempotency-Key": f"download-{member}-{order}"}
    entry = allegro("credits/spend", {"amount": 1, "member": member}, **key)
    return {"download": order, "credits_left": entry["balance_after"]}


def hear(body, headers):
    """Take a notification, once for each id."""
    try:
        message = NOTIFICATIONS.verify(body, dict(headers))
    except WebhookVerificationError as error:
        raise Refused(400, "This is not signed with our secret.") from error
    HEARD.setdefault(headers["webhook-id"], message["type"])
    return {"heard": len(HEARD)}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/article":
            return self.answer(404, {"error": "There is nothing here."})
        return self.run(lambda: show_article(member_of(self.headers["Authorization"])))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/notifications":
            return self.run(lambda: hear(body, self.headers))
        if self.path.startswith("/download/"):
            order = self.path.removeprefix("/download/")
            return self.run(lambda: download(member_of(self.headers["Authorization"]), order))
        return self.answer(404, {"error": "There is nothing here."})

    def run(self, action):
        try:
            self.answer(200, action())
        except Refused as refused:
            self.answer(refused.status, {"error": refused.message})

    def answer(self, status, data):
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    sys.stderr.write(f"Listening on http://127.0.0.1:{PORT}\n")
    server.serve_forever()
