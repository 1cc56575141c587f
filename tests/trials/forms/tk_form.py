"""A Tk form: a name and a password, of which Tk tells nobody. Speaks form_talk's lines."""

import tkinter as tk

from form_talk import serve

root = tk.Tk(className="Form")
fields = {
    "name": tk.Entry(root, width=40),
    "password": tk.Entry(root, width=40, show="*"),
}
for field in fields.values():
    field.pack()
serve(
    lambda wanted: fields[wanted].focus_force(),
    lambda: {name: field.get() for name, field in fields.items()},
    lambda: [field.delete(0, "end") for field in fields.values()],
    lambda call: root.after(0, call),
)
root.mainloop()
