"""/v1/webhook_endpoints: where events are sent, to look at only."""

from stripe.params import WebhookEndpointListParams

from sandbox.config import Endpoint
from sandbox.lists import page
from sandbox.objects import API_VERSION, Json
from sandbox.requests import Call, api

ENDPOINTS = "/v1/webhook_endpoints"


async def list_endpoints(call: Call) -> Json:
    """As Stripe's list, it does not say to whose events they listen."""
    client_id = call.stand_in.config.client_id
    endpoints = [
        _shown(number, endpoint, client_id)
        for number, endpoint in enumerate(call.stand_in.delivery.endpoints, start=1)
    ]
    return page(endpoints, call.params, url=ENDPOINTS)


def _shown(number: int, endpoint: Endpoint, client_id: str) -> Json:
    return {
        "id": f"we_{number}",
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": None if endpoint.connect == "false" else client_id,
        "created": 0,
        "description": None,
        "enabled_events": ["*"],
        "livemode": False,
        "metadata": {},
        "status": "enabled",
        "url": endpoint.url,
    }


routes = [api("GET", ENDPOINTS, list_endpoints, WebhookEndpointListParams)]
