"""A trigger that rejects some rows of `dewey_runs`."""

from collections.abc import Iterable

from engine.database import database, on_postgresql

REASON = "refused by a trigger"

POSTGRESQL = f"""
    CREATE FUNCTION refuse_run() RETURNS trigger AS $$ BEGIN
        IF EXISTS (SELECT 1 FROM refused_runs WHERE id = NEW.id) THEN RAISE EXCEPTION '{REASON}'; END IF;
        RETURN NEW;
    END $$ LANGUAGE plpgsql;
    CREATE TRIGGER refuse_run BEFORE INSERT OR UPDATE ON dewey_runs FOR EACH ROW EXECUTE FUNCTION refuse_run()
"""
SQLITE = """
    CREATE TRIGGER refuse_{when} BEFORE {when} ON dewey_runs
    WHEN EXISTS (SELECT 1 FROM refused_runs WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, '{reason}'); END
"""


def refuse_rows(ids: Iterable[str]) -> None:
    """Reject the runs with these ids from now on."""
    database.execute_sql("CREATE TABLE refused_runs (id text PRIMARY KEY)")
    for run_id in ids:
        database.execute_sql(f"INSERT INTO refused_runs VALUES ({database.param})", [run_id])
    if on_postgresql():
        database.execute_sql(POSTGRESQL)
        return
    for when in ("INSERT", "UPDATE"):
        database.execute_sql(SQLITE.format(when=when, reason=REASON))
