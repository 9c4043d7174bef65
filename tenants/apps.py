from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class TenantsConfig(AppConfig):
    name = "tenants"

    def ready(self) -> None:
        # Pages of the admin that are long enough for a file of their own.
        autodiscover_modules("key_admin")
