"""Which key a keycode is, under the server's layouts and what is held at that moment.

The rules are those of the XKB protocol, section 12 ("Key Symbol Map"): the group chooses a row of
a key's symbols, the key type and the held modifiers a column. The map and the state are the
server's own: what `setxkbmap`, a layout switch or a plugged keyboard changes is told by events,
in order with the keys.
"""

import struct
from dataclasses import dataclass
from typing import Any, Final, Self

from tacitly_client.capture.x11.display import Display
from tacitly_client.capture.x11.keysyms import w3c_key

_SHIFT, _LOCK, _CONTROL = 0x1, 0x2, 0x4
_REAL_MODIFIERS: Final = tuple(1 << bit for bit in range(8))
_CLAMP, _REDIRECT = 0x40, 0x80
_state_notify = struct.Struct("=9xB3xB").unpack_from  # mods, group


@dataclass(frozen=True, slots=True)
class KeyType:
    """Which column each combination of the modifiers in `mask` chooses; others choose column 0."""

    mask: int
    levels: dict[int, int]

    def level(self, modifiers: int) -> int:
        """The column."""
        return self.levels.get(modifiers & self.mask, 0)


@dataclass(frozen=True, slots=True)
class KeySymbols:
    """A key's symbols, `groups` rows of `width` columns, and how to bend a group outside."""

    types: tuple[KeyType, ...]
    width: int
    symbols: tuple[int, ...]
    out_of_range: int

    @property
    def groups(self) -> int:
        """Number of rows."""
        return len(self.types)

    def row(self, group: int) -> int:
        """The row of a group; there is at least one."""
        if group < self.groups:
            return group
        if self.out_of_range & _REDIRECT:
            target = self.out_of_range >> 4 & 0x3
            return target if target < self.groups else 0
        return self.groups - 1 if self.out_of_range & _CLAMP else group % self.groups

    def keysym(self, row: int, modifiers: int) -> int:
        """The symbol, 0 if the key has none there."""
        level = self.types[row].level(modifiers)
        return self.symbols[row * self.width + level] if level < self.width else 0


@dataclass(slots=True)
class Keyboard:
    """The map and the present state."""

    keys: dict[int, KeySymbols]
    names: dict[int, str]  # real modifier -> W3C name
    modifiers: int = 0
    group: int = 0

    @classmethod
    def read(cls, display: Display) -> Self:
        """As the server has it now."""
        reply = display.keyboard_map()
        types = [_key_type(each) for each in reply.types_rtrn]
        keys = {
            reply.firstKeySym + index: _key_symbols(each, types)
            for index, each in enumerate(reply.syms_rtrn)
            if each.groupInfo & 0x0F
        }
        keyboard = cls(keys, _modifier_names(reply.modmap_rtrn, keys))
        keyboard.modifiers, keyboard.group = display.keyboard_state()
        return keyboard

    def on_state(self, head: bytes) -> None:
        """Take the state from an XkbStateNotify event."""
        self.modifiers, self.group = _state_notify(head)

    def press(self, keycode: int) -> tuple[str, tuple[str, ...]]:
        """The W3C key and the modifiers held with it, sorted."""
        held = tuple(sorted({name for bit, name in self.names.items() if self.modifiers & bit}))
        symbols = self.keys.get(keycode)
        if symbols is None:
            return "Unidentified", held
        row = symbols.row(self.group)
        key = self._key(symbols, row)
        if held and held != ("Shift",) and not key.isascii():
            key = self._shortcut(symbols) or key
        return key, held

    def _key(self, symbols: KeySymbols, row: int) -> str:
        key = w3c_key(symbols.keysym(row, self.modifiers))
        if len(key) == 1 and self.modifiers & _LOCK and not symbols.types[row].mask & _LOCK:
            return key.upper() if len(key.upper()) == 1 else key
        return key

    def _shortcut(self, symbols: KeySymbols) -> str:
        """The Latin letter of another layout on this key: Ctrl+с is Ctrl+C, as toolkits have it."""
        every = (self._key(symbols, row) for row in range(symbols.groups))
        return next((key for key in every if len(key) == 1 and key.isascii()), "")


def _key_type(reply: Any) -> KeyType:
    levels = {entry.mods_mask: entry.level for entry in reply.map if entry.active}
    return KeyType(reply.mods_mask, levels)


def _key_symbols(reply: Any, types: list[KeyType]) -> KeySymbols:
    groups = reply.groupInfo & 0x0F
    return KeySymbols(
        types=tuple(types[index] for index in reply.kt_index[:groups]),
        width=reply.width,
        symbols=tuple(reply.syms),
        out_of_range=reply.groupInfo & 0xF0,
    )


def _modifier_names(modifier_map: Any, keys: dict[int, KeySymbols]) -> dict[int, str]:
    """What Mod1 to Mod5 mean is told by the keys that set them."""
    names = {_SHIFT: "Shift", _CONTROL: "Control"}
    for bit in _REAL_MODIFIERS[3:]:
        setting = [keys[m.keycode] for m in modifier_map if m.mods & bit and m.keycode in keys]
        found = {w3c_key(symbols.keysym(0, 0)) for symbols in setting}
        # Mod1 often has Meta_L behind Alt_L: what is printed on the key is Alt.
        name = next((name for name in ("Alt", "Meta") if name in found), None)
        if name:
            names[bit] = name
    return names
