"""Loads what the processes that train need, once, in the process they are forked from.

Importing this module loads torch.
"""

import gc
from importlib import import_module
from typing import Final

_MODULES: Final = ("tacitly_simulations.engines.block", "tacitly_simulations.engines.trainers")

# Nothing that a library loads is garbage: looking for it takes a tenth of the time. Frozen, it is
# not looked at in the forked processes either, which would copy it, page by page.
gc.disable()
for _module in _MODULES:
    import_module(_module)
gc.freeze()
gc.enable()
