"""The schema that migrations make is the one that the code's tables say, on both databases."""

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ledgers import Books
from tacitly_server.ledger import database
from tacitly_server.ledger.database import HEAD_REVISION, open_database, reading
from tacitly_server.ledger.tables import METADATA


def test_the_migrations_end_where_the_tables_are(books: Books) -> None:
    engine = open_database(books.where)
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert context.get_current_revision() == HEAD_REVISION
    engine.dispose()


def test_the_newest_migration_is_the_one_that_the_code_asks_for() -> None:
    config = Config()
    location = database.__file__.replace("database.py", "migrations")
    config.set_main_option("script_location", location)
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD_REVISION]
