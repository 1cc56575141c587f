"""The schema's history, run by Alembic inside the transaction of `database.open_database`."""
