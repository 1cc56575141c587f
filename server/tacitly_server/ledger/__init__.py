"""Who is who, and what each subject has spent. SQLAlchemy Core over SQLite or PostgreSQL.

What others use, each a plain function or class of its module:

    population   PopulationLedger: plan, charge, mark, exhausted, spent_nano_rho, ...
    subjects     Subjects: which subject a node belongs to
    place        database_of(home), witness_of(home), open_ledger(home)
    export       export(where, path), verify_database(where, public_keys, witnessed),
                 latest_checkpoint(where)
    summary      summary(where, caps): figures of the population, small counts suppressed
    backup       backup(where, path, witness), restore(path, where, witness),
                 reconcile(where, witness)

`where` is a path (SQLite) or a URL (sqlite, postgresql). What is checked, and how, is
`tacitly_common.verify_ledger`, one file that auditors run on an export.
"""
