"""What one sandbox is started with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

Connect = Literal["true", "false", "both"]


@dataclass(frozen=True)
class Endpoint:
    """A webhook endpoint; `connect` says whose events it gets: accounts', the platform's, both."""

    url: str
    secret: str
    connect: Connect = "both"

    def __post_init__(self) -> None:
        if self.connect not in get_args(Connect):
            raise ValueError(f"connect is {self.connect!r}; it is true, false or both")

    def wants(self, account_id: str | None) -> bool:
        """Whether an event of this account, or of the platform (None), goes here."""
        return self.connect == "both" or (self.connect == "true") == (account_id is not None)


@dataclass(frozen=True)
class Config:
    """Times are in seconds. `url` is the sandbox's own, as a browser reaches it."""

    url: str
    key: str
    client_id: str
    endpoints: tuple[Endpoint, ...] = ()
    accounts: tuple[str, ...] = ()
    redirect_uris: tuple[str, ...] = ()
    platform_account: str = "acct_1SandboxPlatform"
    state_file: Path | None = None
    bank_debit_delay: float = 5
    redirect_wait: float = 10
    answer_timeout: float = 30
    retry_gaps: tuple[float, ...] = field(default=(1, 3, 10, 30))
    shuffle_window: float = 0.5
