"""A local stand-in for Stripe: the API, the pages and the webhooks that the product relies on."""
