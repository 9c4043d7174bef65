"""Django's SQLite backend, with a way past the append-only tables for emptying a test database.

On PostgreSQL `flush` truncates, which the row triggers of purchases/migrations/0002 don't see. On
SQLite it deletes row by row; the triggers let that pass while this says so, and nothing else.
"""

from collections.abc import Iterable
from typing import Any

from django.db.backends.sqlite3 import base, operations


class DatabaseOperations(operations.DatabaseOperations):
    connection: "DatabaseWrapper"

    def execute_sql_flush(self, sql_list: Iterable[str]) -> None:
        self.connection.is_flushing = True
        try:
            super().execute_sql_flush(sql_list)
        finally:
            self.connection.is_flushing = False


class DatabaseWrapper(base.DatabaseWrapper):
    ops_class = DatabaseOperations
    is_flushing = False

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        # In a connection without it, such as the sqlite3 shell's, the triggers fail: that will do.
        connection.create_function("allegro_is_flushing", 0, lambda: self.is_flushing)
        return connection
