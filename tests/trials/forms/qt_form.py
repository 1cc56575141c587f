"""A Qt form: a name and a password. Speaks form_talk's lines."""

import sys

from form_talk import serve
from PyQt5.QtCore import QObject, pyqtSignal
from PyQt5.QtWidgets import QApplication, QLineEdit, QVBoxLayout, QWidget


class Caller(QObject):
    """Brings a call into the thread of the windows."""

    called = pyqtSignal(object)


app = QApplication([*sys.argv, "-name", "form"])
app.setApplicationName("Form")
window = QWidget()
layout = QVBoxLayout(window)
fields = {"name": QLineEdit(), "password": QLineEdit()}
fields["password"].setEchoMode(QLineEdit.Password)
for field in fields.values():
    layout.addWidget(field)
window.show()
caller = Caller()
caller.called.connect(lambda call: call())
serve(
    lambda wanted: fields[wanted].setFocus(),
    lambda: {name: field.text() for name, field in fields.items()},
    lambda: [field.clear() for field in fields.values()],
    caller.called.emit,
)
app.exec_()
