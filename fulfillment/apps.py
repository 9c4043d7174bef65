from importlib import import_module

from corsheaders.signals import check_request_enabled
from django.apps import AppConfig


class FulfillmentConfig(AppConfig):
    name = "fulfillment"

    def ready(self) -> None:
        # Importing it registers the checks, which need the settings to be there.
        import_module("fulfillment.checks")
        check_request_enabled.connect(import_module("fulfillment.cors").is_allowed)
