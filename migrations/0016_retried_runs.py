"""Counts of runs with several attempts, computed for existing runs as the recorder counts new ones."""

from peewee import Database, PostgresqlDatabase
from playhouse.migrate import SchemaMigrator

SECOND = "CAST(strftime('%s', substr(ended_at, 1, 19)) AS integer)"
SECOND_ON_POSTGRESQL = "CAST(floor(extract(epoch FROM ended_at)) AS bigint)"

COUNT = """
    INSERT INTO dewey_run_counts (span, start, task, queue, what, bucket, count)
    SELECT {span}, {second} / {span} * {span}, task, queue, 'again', 0, COUNT(*)
    FROM dewey_runs WHERE attempts > 1 AND ended_at IS NOT NULL GROUP BY 2, task, queue"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    second = SECOND_ON_POSTGRESQL if isinstance(db, PostgresqlDatabase) else SECOND
    for span in (60, 3600, 86_400):
        db.execute_sql(COUNT.format(span=span, second=second))
