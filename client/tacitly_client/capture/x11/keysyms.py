"""Keysyms -> W3C UI Events `key` values.

Keysyms of characters follow the X Window System Protocol, Appendix A: Latin-1 as it is, Unicode
with bit 24 set, and older sets that are ISO 8859 parts, KOI8, JIS kana or jamo in their last byte.
"""

import unicodedata
from typing import Final

_UNICODE_BIT: Final = 0x0100_0000

_NAMED: Final = {
    0xFF08: "Backspace", 0xFF09: "Tab", 0xFF0D: "Enter", 0xFF13: "Pause", 0xFF14: "ScrollLock",
    0xFF1B: "Escape", 0xFF20: "Compose", 0xFF21: "KanjiMode", 0xFF22: "NonConvert",
    0xFF23: "Convert", 0xFF31: "HangulMode", 0xFF50: "Home", 0xFF51: "ArrowLeft",
    0xFF52: "ArrowUp", 0xFF53: "ArrowRight", 0xFF54: "ArrowDown", 0xFF55: "PageUp",
    0xFF56: "PageDown", 0xFF57: "End", 0xFF61: "PrintScreen", 0xFF63: "Insert", 0xFF65: "Undo",
    0xFF66: "Redo", 0xFF67: "ContextMenu", 0xFF68: "Find", 0xFF69: "Cancel", 0xFF6A: "Help",
    0xFF7E: "AltGraph", 0xFF7F: "NumLock", 0xFF8D: "Enter", 0xFF95: "Home", 0xFF96: "ArrowLeft",
    0xFF97: "ArrowUp", 0xFF98: "ArrowRight", 0xFF99: "ArrowDown", 0xFF9A: "PageUp",
    0xFF9B: "PageDown", 0xFF9C: "End", 0xFF9D: "Clear", 0xFF9E: "Insert", 0xFF9F: "Delete",
    0xFF89: "Tab", 0xFFE1: "Shift", 0xFFE2: "Shift", 0xFFE3: "Control", 0xFFE4: "Control",
    0xFFE5: "CapsLock", 0xFFE6: "CapsLock", 0xFFE7: "Meta", 0xFFE8: "Meta", 0xFFE9: "Alt",
    0xFFEA: "Alt", 0xFFEB: "Meta", 0xFFEC: "Meta", 0xFFED: "Hyper", 0xFFEE: "Hyper",
    0xFFFF: "Delete", 0xFE03: "AltGraph", 0xFE08: "GroupNext", 0xFE0A: "GroupPrevious",
    0xFE11: "AltGraph", 0xFE20: "Tab",
}  # fmt: skip
_KEYPAD: Final = {0xFF80: " ", 0xFFBD: "="} | {0xFFAA + n: c for n, c in enumerate("*+,-./")}
_FUNCTION_KEYS: Final = range(0xFFBE, 0xFFE1)  # F1 to F35
_KEYPAD_DIGITS: Final = range(0xFFB0, 0xFFBA)
_DEAD: Final = range(0xFE50, 0xFE94)

_SETS: Final = {
    0x1: "iso8859_2",
    0x2: "iso8859_3",
    0x3: "iso8859_4",
    0x4: "shift_jis",
    0x5: "iso8859_6",
    0x6: "koi8_u",
    0x7: "iso8859_7",
    0xC: "iso8859_8",
    0xD: "iso8859_11",
    0x13: "iso8859_15",
}
_JAMO: Final = range(0xEA1, 0xED4)
# What those parts have elsewhere or not at all: Serbian, Macedonian, Belarusian, accented Greek,
# and the typographer's marks that layouts put behind AltGr.
_OTHERS: Final = dict(
    zip(
        (
            *(0x6A1, 0x6A2, 0x6A5, 0x6A8, 0x6A9, 0x6AA, 0x6AB, 0x6AC, 0x6AE, 0x6AF),
            *(0x6B1, 0x6B2, 0x6B5, 0x6B8, 0x6B9, 0x6BA, 0x6BB, 0x6BC, 0x6BE, 0x6BF),
            *(0x7A1, 0x7A2, 0x7A3, 0x7A4, 0x7A5, 0x7A7, 0x7A8, 0x7A9, 0x7AB),
            *(0x7B1, 0x7B2, 0x7B3, 0x7B4, 0x7B5, 0x7B6, 0x7B7, 0x7B8, 0x7B9, 0x7BA, 0x7BB),
            *(0x7D2, 0x7F2, 0x7F3, 0x6B0, 0x7AE),
            *(0xAA9, 0xAAA, 0xAAE, 0xAC9, 0xAD0, 0xAD1, 0xAD2, 0xAD3, 0xAE6, 0xAFD, 0xAFE),
        ),
        "ђѓѕјљњћќўџЂЃЅЈЉЊЋЌЎЏΆΈΉΊΪΌΎΫΏάέήίϊΐόύϋΰώΣσς№΅—–…™‘’“”•‚„",
        strict=True,
    )
)


def w3c_key(keysym: int) -> str:
    """The `key` value, "Unidentified" for keys without one and "" for no keysym at all."""
    if not keysym:
        return ""
    if name := _NAMED.get(keysym) or _KEYPAD.get(keysym) or _OTHERS.get(keysym):
        return name
    if keysym in _FUNCTION_KEYS:
        return f"F{keysym - _FUNCTION_KEYS.start + 1}"
    if keysym in _KEYPAD_DIGITS:
        return str(keysym - _KEYPAD_DIGITS.start)
    if keysym in _DEAD:
        return "Dead"
    return _character(keysym) or "Unidentified"


def _character(keysym: int) -> str:
    """The printable character of a keysym, "" if it is none."""
    if keysym & _UNICODE_BIT:
        code_point = keysym - _UNICODE_BIT
        character = chr(code_point) if code_point < 0x11_0000 else ""
    elif keysym < 0x100 or 0x20A0 <= keysym <= 0x20AC:  # currencies: their code point
        character = chr(keysym)
    elif keysym in _JAMO:
        character = chr(0x3131 + keysym - _JAMO.start)
    elif (codec := _SETS.get(keysym >> 8)) and keysym & 0x80:
        character = bytes([keysym & 0xFF]).decode(codec, errors="ignore")
    else:
        return ""
    # Kana of the old set are half-width in its codec.
    character = unicodedata.normalize("NFKC", character) if keysym >> 8 == 0x4 else character
    return character if character.isprintable() else ""
