from django.contrib import admin
from django.urls import path, re_path

from allegro import openapi
from fulfillment import api_views as checkout
from fulfillment import health, metrics
from fulfillment import views as fulfillment
from purchases import credit_views, entitlement_views
from purchases import notification_views as notifications
from purchases import server_views as server
from purchases import views as member
from tenants import connect_views
from tenants import views as tenants

admin.site.site_header = admin.site.site_title = "Allegro"
# It would take a fifth of the width from tables that need it.
admin.site.enable_nav_sidebar = False

handler400 = "allegro.api.bad_request"
handler404 = "allegro.api.not_found"
handler500 = "allegro.api.server_error"

urlpatterns = [
    # Both spellings: Stripe takes a redirect for a failed delivery.
    re_path(r"^api/webhooks/stripe/?$", fulfillment.stripe_webhook),
    path("api/checkout/sessions", checkout.CheckoutSessions.as_view()),
    path("api/purchases/exchange", checkout.TokenExchange.as_view()),
    path("api/entitlements", member.MemberEntitlements.as_view()),
    path("api/purchases", member.MemberPurchases.as_view()),
    path("api/credits", member.MemberCredits.as_view()),
    path("api/members/token/refresh", member.TokenRefresh.as_view()),
    path("api/v1/audience-members", server.AudienceMembers.as_view()),
    path("api/v1/audience-members/<str:id>", server.AudienceMember.as_view()),
    path("api/v1/purchases", server.Purchases.as_view()),
    path("api/v1/purchases/<str:id>", server.OnePurchase.as_view()),
    path("api/v1/entitlements", entitlement_views.Entitlements.as_view()),
    path("api/v1/entitlements/<str:id>", entitlement_views.OneEntitlement.as_view()),
    path("api/v1/access", entitlement_views.Access.as_view()),
    path("api/v1/products", server.Products.as_view()),
    path("api/v1/plans", server.Plans.as_view()),
    path("api/v1/events", server.Events.as_view()),
    path("api/v1/credit-packages", credit_views.CreditPackages.as_view()),
    path("api/v1/credits", credit_views.Credits.as_view()),
    path("api/v1/credits/entries", credit_views.CreditEntries.as_view()),
    path("api/v1/credits/spend", credit_views.CreditSpending.as_view()),
    path("api/v1/credits/checkout", checkout.CreditCheckout.as_view()),
    path("api/v1/notification-endpoints", notifications.Endpoints.as_view()),
    path("api/v1/notification-endpoints/<str:id>", notifications.Endpoint.as_view()),
    path(
        "api/v1/notification-endpoints/<str:id>/rotate-secret",
        notifications.EndpointSecret.as_view(),
    ),
    path(
        "api/v1/notification-endpoints/<str:id>/enable",
        notifications.EndpointEnabling.as_view(),
    ),
    path(
        "api/v1/notification-endpoints/<str:id>/deliveries",
        notifications.Deliveries.as_view(),
    ),
    path(
        "api/v1/notification-deliveries/<str:id>/redeliver",
        notifications.Redelivery.as_view(),
    ),
    path("api/schema", openapi.schema, name="schema"),
    path("api/docs", openapi.docs),
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
