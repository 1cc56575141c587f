"""Who is who, and what each subject has spent: SQLite through SQLAlchemy Core, no ORM."""
