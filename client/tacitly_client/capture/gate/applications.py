"""Which applications are denied whatever the accessibility bus says: one public table.

An application is known by its window's class. A word of the table counts wherever it stands in
that name ("org.keepassxc.keepassxc", "gnome-terminal-server"): what is denied too much costs a
few key classes, what is denied too little costs a password.
"""

from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What is special about an application."""

    GUARD = "guard"  # keeps or asks for secrets: never
    SCREEN = "screen"  # shows another program's or machine's prompts: no content, ever
    BROWSER = "browser"  # only its extension knows what a page's field is
    OTHER = "other"


_TABLE: Final = {
    Kind.GUARD: "1password askpass authenticator authy bitwarden buttercup dashlane enpass gcr "
    "gksu greeter gufw-pkexec i3lock kdesu keepass keeper keyring kgpg kleopatra kwallet lastpass "
    "locker lxqt-sudo nordpass passman passphrase password passwordsafe pinentry polkit "
    "proton-pass qtpass screensaver seahorse secret slock swaylock veracrypt wallet",
    Kind.SCREEN: "alacritty anydesk citrix cmd.exe console cool-retro-term foot ghostty guake kgx "
    "kitty konsole moonlight nomachine parsec powershell ptyxis putty qemu rdesktop rdp remmina "
    "rustdesk rxvt spice ssh teamviewer term tilda tilix tmux virt-manager virt-viewer virtualbox "
    "vmware vnc wfica wine x2go xpra yakuake",
    Kind.BROWSER: "brave browser chrom dillo edge epiphany falkon firefox floorp iceweasel "
    "konqueror librewolf luakit midori mullvad navigator netsurf opera pale-moon palemoon "
    "qutebrowser safari seamonkey surf thorium vivaldi waterfox zen-alpha zen-beta",
}
_WORDS: Final = tuple((word, kind) for kind, words in _TABLE.items() for word in words.split())


def kind_of(app: str) -> Kind:
    """The kind of an application's id; the table's first word that it holds decides."""
    name = app.lower()
    return next((kind for word, kind in _WORDS if word in name), Kind.OTHER)
