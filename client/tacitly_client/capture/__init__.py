"""Capture: from what a person does at the keyboard and pointer to sealed events.

source.py      what a source of input is: select, poll, deselect
x11/           the source for X11: XInput2 raw events, server time, focus and grabs
desktop.py     which source fits this desktop; Wayland: none, and it says so
hooks.py       Windows and macOS through pynput (experimental)
normaliser.py  a source's events -> `Event`s: clocks, wheels, repeats, what is dropped and why
content.py     what may be kept of an event: the filter's interface, and the filter that keeps
               no content at all
gate/          whether the focused field is a secret: ALLOW, DENY, UNKNOWN
hold.py        where every key waits for a contradiction
apart.py       redaction in a process of its own, which leaves nothing of what it saw
gated.py       the filter: choices, gate, hold-back and redaction
unkept.py      counts what was not kept, by rule
permit.py      the permission without which not even a connection is opened
session.py     locked screens and suspended machines
process.py     the capture process: all of these in one loop
replay.py      a recording instead of a person
"""
