"""How the work on an event ends, other than by an error of ours."""

from dataclasses import dataclass

from purchases.models import Purchase
from tenants.models import Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The event's facts are stored and settled."""

    code: str
    tenant: Tenant | None = None
    purchase: Purchase | None = None


class NotDone(Exception):
    """Nothing was written, for the reason that `code` names."""

    def __init__(self, code: str, message: str, *, tenant: Tenant | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.tenant = tenant


class Ignored(NotDone):
    """The event does not concern us, and never will."""


class Held(NotDone):
    """The event concerns us and a person has to look at it before anything happens."""
