"""The desk: how devices are admitted and leave, and where officers bring what they signed.

    invite.py         `tacitly-server invite`: a token for a person
    authority.py      certificates of devices' own keys
    registry.py       tokens and devices in the population database
    registration.py   the key for Flower: registered at SuperLink, bound to the person
    devices.py        what devices may ask
    officers.py       what officers may ask
    door.py           what every call must pass, and what is written of it
    service.py        the process (`python -m tacitly_server.enrolment`)

A token admits one device, once. It becomes a node of Flower's, bound to a subject (ledger/), and
a certificate of the device's own signing key. Leaving, or being shut out, ends both for ever;
what the subject has spent stays spent.
"""
