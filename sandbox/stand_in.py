"""The parts of one running sandbox, and the two things all of them do: tell, and wait."""

import heapq
import time
from dataclasses import dataclass, field

from aiohttp import web

from sandbox.config import Config
from sandbox.delivery import Delivery
from sandbox.faults import Faults
from sandbox.objects import Json, events
from sandbox.state import Account, Appointment, World


@dataclass
class StandIn:
    """What every handler works with."""

    config: Config
    world: World
    delivery: Delivery
    faults: Faults = field(default_factory=Faults)

    def emit(
        self,
        account: Account,
        kind: str,
        obj: Json,
        *,
        previous: Json | None = None,
        request: Json | None = None,
        context: str | None = None,
    ) -> str:
        """Record that something happened to an object, and send it out; the event's id."""
        account_id = None if self.world.is_platform(account) else account.id
        wanting = sum(endpoint.wants(account_id) for endpoint in self.delivery.endpoints)
        event = events.event(
            kind,
            obj,
            account_id=account_id,
            context=context,
            previous=previous,
            request=request,
            pending_webhooks=wanting,
        )
        account.add(event)
        self.delivery.send(event)
        self.world.touch()
        return str(event["id"])

    def change(
        self,
        account: Account,
        kind: str,
        obj: Json,
        *,
        request: Json | None = None,
        **fields: object,
    ) -> str:
        """Change an object and emit the event about it, with what the fields were before."""
        previous = {name: obj.get(name) for name in fields if obj.get(name) != fields[name]}
        obj.update(fields)
        return self.emit(account, kind, obj, previous=previous, request=request)

    def plan(self, kind: str, account: Account, object_id: str, *, at: float, good: bool) -> None:
        """Let something happen by itself at a time, restarts or not."""
        heapq.heappush(self.world.agenda, Appointment(at, kind, account.id, object_id, good))

    def due(self) -> list[Appointment]:
        """Take what is due off the agenda."""
        taken = []
        while self.world.agenda and self.world.agenda[0].at <= time.time():
            taken.append(heapq.heappop(self.world.agenda))
        return taken


STAND_IN: web.AppKey[StandIn] = web.AppKey("stand_in", StandIn)


def stand_in(request: web.Request) -> StandIn:
    """The sandbox that a request came to."""
    return request.app[STAND_IN]
