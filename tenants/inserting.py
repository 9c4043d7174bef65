"""`INSERT … ON CONFLICT` in one statement, which the ORM can't say and report on."""

from typing import Any

from django.db import connection, models


def insert_statement(instance: models.Model) -> tuple[str, list[Any]]:
    """The INSERT of an instance, to be followed by an ON CONFLICT clause, and its values."""
    fields = instance._meta.concrete_fields
    columns = ", ".join(connection.ops.quote_name(field.column) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    table = connection.ops.quote_name(instance._meta.db_table)
    values = [
        field.get_db_prep_save(field.pre_save(instance, True), connection) for field in fields
    ]
    return f"INSERT INTO {table} ({columns}) VALUES ({marks})", values  # noqa: S608
