from django.contrib import admin
from django.urls import path, re_path

from fulfillment import health, metrics
from fulfillment import views as fulfillment
from purchases import notification_views as notifications
from purchases import views as purchases
from tenants import connect_views
from tenants import views as tenants

admin.site.site_header = admin.site.site_title = "Allegro"
# It would take a fifth of the width from tables that need it.
admin.site.enable_nav_sidebar = False

handler404 = "allegro.api.not_found"
handler500 = "allegro.api.server_error"

urlpatterns = [
    # Both spellings: Stripe takes a redirect for a failed delivery.
    re_path(r"^api/webhooks/stripe/?$", fulfillment.stripe_webhook),
    path("api/checkout/sessions", fulfillment.CheckoutSessions.as_view()),
    path("api/purchases/exchange", fulfillment.TokenExchange.as_view()),
    path("api/entitlements", purchases.MemberEntitlements.as_view()),
    path("api/purchases", purchases.MemberPurchases.as_view()),
    path("api/credits", purchases.MemberCredits.as_view()),
    path("api/members/token/refresh", purchases.TokenRefresh.as_view()),
    path("api/v1/credit-packages", purchases.CreditPackages.as_view()),
    path("api/v1/credits", purchases.Credits.as_view()),
    path("api/v1/credits/entries", purchases.CreditEntries.as_view()),
    path("api/v1/credits/spend", purchases.CreditSpending.as_view()),
    path("api/v1/credits/checkout", fulfillment.CreditCheckout.as_view()),
    path("api/v1/notification-endpoints", notifications.Endpoints.as_view()),
    path("api/v1/notification-endpoints/<str:endpoint_id>", notifications.Endpoint.as_view()),
    path(
        "api/v1/notification-endpoints/<str:endpoint_id>/rotate-secret",
        notifications.EndpointSecret.as_view(),
    ),
    path(
        "api/v1/notification-endpoints/<str:endpoint_id>/enable",
        notifications.EndpointEnabling.as_view(),
    ),
    path(
        "api/v1/notification-endpoints/<str:endpoint_id>/deliveries",
        notifications.Deliveries.as_view(),
    ),
    path(
        "api/v1/notification-deliveries/<str:delivery_id>/redeliver",
        notifications.Redelivery.as_view(),
    ),
    path(".well-known/jwks.json", tenants.jwks),
    path(".well-known/openid-configuration", tenants.openid_configuration),
    path("client.js", fulfillment.client_js, name="client_js"),
    path("purchase/return", fulfillment.return_page, name="purchase_return"),
    re_path(r"^health/live/?$", health.live),
    re_path(r"^health/ready/?$", health.ready),
    re_path(r"^health/webhooks/?$", health.webhooks),
    re_path(r"^metrics/?$", metrics.metrics),
    path("connect/stripe/callback", connect_views.callback, name="connect_callback"),
    path("connect/stripe/<slug:name>/start", connect_views.start, name="connect_start"),
    path(
        "connect/stripe/<slug:name>/disconnect",
        connect_views.disconnect,
        name="connect_disconnect",
    ),
    path("admin/", admin.site.urls),
]
