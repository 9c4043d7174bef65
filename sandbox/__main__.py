"""Run the sandbox: python -m sandbox --port 8001 --key sk_test_… --client-id ca_… --webhook URL."""

import argparse
from pathlib import Path
from typing import get_args

from aiohttp import web

from sandbox.app import create_app
from sandbox.config import Config, Connect, Endpoint

HOST = "127.0.0.1"


def main() -> None:
    """Serve on loopback until interrupted."""
    parser = _parser()
    options = parser.parse_args()
    if any(endpoint[2] not in get_args(Connect) for endpoint in options.endpoint):
        parser.error("CONNECT is true, false or both")
    if bool(options.webhook) != bool(options.secret):
        parser.error("--webhook and --secret go together")
    config = Config(
        url=options.url or f"http://{HOST}:{options.port}",
        key=options.key,
        client_id=options.client_id,
        endpoints=_endpoints(options),
        accounts=tuple(options.account),
        redirect_uris=tuple(options.redirect_uri),
        state_file=options.state,
        bank_debit_delay=options.bank_debit_delay,
    )
    web.run_app(create_app(config), host=HOST, port=options.port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A stand-in for Stripe.")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--url", help="how a browser reaches it (default: by the port)")
    parser.add_argument("--key", required=True, help="the platform's secret key, sk_test_…")
    parser.add_argument("--client-id", required=True, help="the platform's Connect id, ca_…")
    parser.add_argument("--webhook", metavar="URL", help="gets all events")
    parser.add_argument("--secret", metavar="WHSEC", help="signs what --webhook gets")
    parser.add_argument(
        "--endpoint",
        nargs=3,
        action="append",
        default=[],
        metavar=("URL", "WHSEC", "CONNECT"),
        help="one more webhook endpoint; CONNECT is true, false or both",
    )
    parser.add_argument("--account", action="append", default=[], help="connected from the start")
    parser.add_argument(
        "--redirect-uri", action="append", default=[], help="registered for OAuth (default: any)"
    )
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep the state here")
    parser.add_argument("--bank-debit-delay", type=float, default=5, metavar="SECONDS")
    return parser


def _endpoints(options: argparse.Namespace) -> tuple[Endpoint, ...]:
    first = [Endpoint(options.webhook, options.secret)] if options.webhook else []
    return (*first, *(Endpoint(*values) for values in options.endpoint))


if __name__ == "__main__":
    main()
