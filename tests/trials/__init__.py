"""Trials of the secret-field gate: real applications, typed into by a program.

    cd tests && python -m trials --trials 25 "GTK, by Tab" > row.json     # no name: all, one by one

desktop.py   a display with a window manager, a session bus and an accessibility bus
forms/       programs with a name field and a password field, run by the system's Python
stream.py    a thousand pointer events a second in each application
browsers.py  the same form as a page, in browsers with our extension
typist.py    types, and runs the capture process
capture.py   the capture process, with one of its guards taken out on demand
trial.py     what is typed where, and which of it was stored
table.py     rows of JSON as a table
search.py    looks for canaries in files and in the process's memory
"""
