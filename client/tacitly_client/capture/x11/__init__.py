"""The source for X11.

display.py  the connection: what is selected, what arrives, what can be asked
keyboard.py the server's XKB map and state -> W3C keys
keysyms.py  the X11 names of keys -> W3C names
focus.py    which window has the focus at each event, and whether somebody grabbed the keyboard
source.py   the `Source`
"""

from tacitly_client.capture.x11.source import X11Source

__all__ = ["X11Source"]
