from django import template

from fulfillment import quarantine

register = template.Library()


@register.inclusion_tag("fulfillment/webhook_alarm.html")
def webhook_alarm() -> dict[str, str]:
    """A red line while Stripe's deliveries are refused, else nothing."""
    return {"alarm": quarantine.ALARM if quarantine.is_alarming() else ""}
