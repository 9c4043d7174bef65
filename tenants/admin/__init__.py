"""The operators' pages about who sells and who buys. Django finds what is imported here."""

from tenants.admin import keys, members, selling

__all__ = ["keys", "members", "selling"]
