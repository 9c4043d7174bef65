"""Everything the sandbox remembers, by account, and the file it survives a restart in."""

import asyncio
import contextlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandbox.errors import no_such
from sandbox.objects import Json, accounts

SAVE_DELAY = 0.3


@dataclass
class Account:
    """One account and its objects: `objects[object name][id]`, oldest first.

    `drafts` holds what a session was created with and its object does not show.
    `replays` holds the first answer to each idempotency key.
    """

    id: str
    is_connected: bool
    objects: dict[str, dict[str, Json]] = field(default_factory=dict)
    drafts: dict[str, Json] = field(default_factory=dict)
    replays: dict[str, Json] = field(default_factory=dict)

    def table(self, name: str) -> dict[str, Json]:
        """The objects of one kind."""
        return self.objects.setdefault(name, {})

    def get(self, name: str, object_id: str, *, param: str = "id") -> Json:
        """The object, or Stripe's 404."""
        try:
            return self.table(name)[object_id]
        except KeyError:
            raise no_such(name.replace(".", "_"), object_id, param=param) from None

    def add(self, obj: Json) -> Json:
        """Keep an object under its own name and id."""
        self.table(obj["object"])[obj["id"]] = obj
        return obj

    @property
    def details(self) -> Json:
        """The account's own object."""
        return self.table("account")[self.id]

    @property
    def name(self) -> str:
        """What the seller is called on pages."""
        return str(self.details["business_profile"]["name"])


@dataclass(order=True)
class Appointment:
    """Something that happens by itself later: `expire` a session, or `settle` a bank debit."""

    at: float
    kind: str
    account_id: str
    object_id: str
    is_good: bool = True


class World:
    """All accounts. `touch` after a change writes them to the file, if there is one."""

    def __init__(self, platform_id: str, *, path: Path | None = None) -> None:
        self.platform_id = platform_id
        self.accounts: dict[str, Account] = {}
        self.codes: dict[str, Json] = {}
        self.agenda: list[Appointment] = []
        self._path = path
        self._saving: asyncio.TimerHandle | None = None
        if path is not None and path.exists():
            self._restore(json.loads(path.read_text()))
        self.open_account(platform_id, name="The platform")

    @property
    def platform(self) -> Account:
        """The platform's own account."""
        return self.accounts[self.platform_id]

    def open_account(
        self, account_id: str, *, name: str = "", is_connected: bool = True
    ) -> Account:
        """The account with this id, made if there is none."""
        if account_id not in self.accounts:
            account = Account(account_id, is_connected)
            account.add(accounts.account(account_id, name=name or f"Seller {account_id[-4:]}"))
            self.accounts[account_id] = account
            self.touch()
        return self.accounts[account_id]

    def is_platform(self, account: Account) -> bool:
        """Whether it is the platform's own account."""
        return account.id == self.platform_id

    def owner(self, name: str, object_id: str) -> tuple[Account, Json]:
        """An object and its account, for those who do not say which account they mean."""
        for account in self.accounts.values():
            if object_id in account.table(name):
                return account, account.table(name)[object_id]
        raise no_such(name, object_id)

    def touch(self) -> None:
        """Write the state soon; several changes at once are one write."""
        if self._path is None or self._saving is not None:
            return
        with contextlib.suppress(RuntimeError):  # before the loop runs: the next change writes
            self._saving = asyncio.get_running_loop().call_later(SAVE_DELAY, self.save)

    def save(self) -> None:
        """Replace the file as a whole, so that it is never half written."""
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        if self._path is None:
            return
        with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
            json.dump(self._snapshot(), file)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(self._path)

    def _snapshot(self) -> dict[str, Any]:
        return {
            "accounts": [asdict(account) for account in self.accounts.values()],
            "agenda": [asdict(appointment) for appointment in self.agenda],
        }

    def _restore(self, data: dict[str, Any]) -> None:
        self.accounts = {item["id"]: Account(**item) for item in data["accounts"]}
        self.agenda = [Appointment(**item) for item in data["agenda"]]
