"""What keeps an agent's processes alive and apart: supervisor, vault, training conditions.

supervisor ─┬─ vault      the store's key, the ledger; starts trainers; no network
            ├─ node       the network; neither store nor key nor ledger
            ├─ control    what the person's programs ask
            ├─ tray       shows that capture is on, and only then permits it
            └─ capture    the desktop's input; the store's public key; no network
"""
