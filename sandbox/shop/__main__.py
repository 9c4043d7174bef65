"""A publisher's site for the demo: `python -m sandbox.shop --help`.

It stands on an origin of its own and sells through `client.js` as any integrator would.
"""

import argparse
import html
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

FOLDER = Path(__file__).parent
TYPES = {"shop.css": "text/css", "shop.js": "text/javascript"}
PLAN = Template("""<li>
            <h3>$name</h3>
            <p class="price">$price</p>
            <button type="button" data-plan="$id">Buy</button>
          </li>""")


def page(allegro: str, key: str, plans: list[dict[str, str]]) -> bytes:
    items = "\n          ".join(
        PLAN.substitute({name: html.escape(value) for name, value in plan.items()})
        for plan in plans
    )
    template = Template((FOLDER / "index.html").read_text())
    return template.substitute(
        allegro=html.escape(allegro), key=html.escape(key), plans=items
    ).encode()


def handler(allegro: str, index: bytes) -> type[BaseHTTPRequestHandler]:
    policy = (
        f"default-src 'none'; style-src 'self'; img-src data:; "
        f"script-src 'self' {allegro}; connect-src {allegro}; base-uri 'none'"
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].lstrip("/")
            if name in TYPES:
                self._answer(200, (FOLDER / name).read_bytes(), TYPES[name])
            elif name in ("", "thanks"):
                self._answer(200, index, "text/html")
            else:
                self._answer(404, b"There is nothing here.", "text/plain")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{content_type}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", policy)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing: the demo's terminal is for Allegro's log."""

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.shop", description=__doc__)
    parser.add_argument("--port", type=int, default=8002)
    parser.add_argument("--allegro", required=True, help="address of the Allegro server")
    parser.add_argument("--key", required=True, help="publishable key of the tenant")
    parser.add_argument("--plans", required=True, help="JSON: [{id, name, price}]")
    arguments = parser.parse_args()
    index = page(arguments.allegro, arguments.key, json.loads(arguments.plans))
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), handler(arguments.allegro, index))
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
