"""The tray process: python -m tacitly_client.tray --home DIR

It shows what is done, always, and is the only one that permits capture: while the indicator can
really be seen, consent stands and nobody has paused (capture/permit.py). Killed, frozen or
covered, it permits nothing, and capture ends within a second. It reads no event and has no
network.

main.py       the loop: look, show, permit
shown.py      what is to be shown, from the agent's files
indicator.py  an icon where a tray takes it, else a small window above all others
menu.py       what a click on it offers
screen.py     one connection to the X server: windows with a picture, what covers them
picture.py    how it looks
windows.py    what a person reads: the question for consent, what is stored
"""
