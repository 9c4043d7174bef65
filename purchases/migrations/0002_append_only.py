from django.db import migrations

# Append-only: what these tables say once stays said, whoever asks the database to change it.
TABLES = ("purchases_creditentry", "purchases_purchaseevent")
MESSAGE = "this table is append-only: add a row that corrects the old one"

POSTGRESQL = """
CREATE FUNCTION {table}_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION {table}_is_append_only();
"""
POSTGRESQL_BACK = """
DROP TRIGGER {table}_append_only ON {table};
DROP FUNCTION {table}_is_append_only();
"""
SQLITE = (
    "CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
    "WHEN NOT allegro_is_flushing() BEGIN SELECT RAISE(ABORT, '{message}'); END"
)
SQLITE_BACK = "DROP TRIGGER {table}_no_{verb}"


def run(schema_editor, postgresql, sqlite):
    for table in TABLES:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(postgresql.format(table=table, message=MESSAGE), params=None)
        else:
            for verb in ("update", "delete"):
                schema_editor.execute(
                    sqlite.format(table=table, verb=verb, message=MESSAGE), params=None
                )


def protect(apps, schema_editor):
    run(schema_editor, POSTGRESQL, SQLITE)


def unprotect(apps, schema_editor):
    run(schema_editor, POSTGRESQL_BACK, SQLITE_BACK)


class Migration(migrations.Migration):
    dependencies = [("purchases", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
