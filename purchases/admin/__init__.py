"""The operators' pages, by the topics of the models. Django finds what is imported here."""

from purchases.admin import holding, notifying, offering, owners, payment

__all__ = ["holding", "notifying", "offering", "owners", "payment"]
