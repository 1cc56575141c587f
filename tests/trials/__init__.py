"""Trials of the secret-field gate: real applications, typed into by a program.

    python -m trials gtk qt --trials 25        # from tests/; writes a table

desktop.py   a display with a window manager, a session bus and an accessibility bus
forms/       programs with a name field and a password field, run by the system's Python
typist.py    types plain text and canaries, and tells which of them were stored
"""
