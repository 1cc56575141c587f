"""A GTK form: a name, a password, and a field that only paints dots. Speaks form_talk's lines."""

import gi

gi.require_version("Gtk", "3.0")
from form_talk import serve  # noqa: E402
from gi.repository import GLib, Gtk  # noqa: E402


class Dots(Gtk.DrawingArea):
    """Takes keys and paints a dot for each, as home-made password fields do."""

    def __init__(self) -> None:
        super().__init__(can_focus=True)
        self.text = ""
        self.connect("key-press-event", self._on_key)

    def get_text(self) -> str:
        return self.text

    def set_text(self, text: str) -> None:
        self.text = text

    def _on_key(self, _widget: Gtk.Widget, event: object) -> bool:
        if event.string.isprintable() and event.string:  # type: ignore[attr-defined]
            self.text += event.string  # type: ignore[attr-defined]
            return True
        return False


window = Gtk.Window(title="form")
window.set_wmclass("form", "Form")
fields = {"name": Gtk.Entry(), "password": Gtk.Entry(visibility=False), "dots": Dots()}
box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL)
for field in fields.values():
    field.set_size_request(300, 40)
    box.add(field)
window.add(box)
window.connect("destroy", Gtk.main_quit)
window.show_all()
serve(
    lambda wanted: fields[wanted].grab_focus(),
    lambda: {name: field.get_text() for name, field in fields.items()},
    lambda: [field.set_text("") for field in fields.values()],
    GLib.idle_add,
)
Gtk.main()
