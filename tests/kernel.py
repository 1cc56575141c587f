"""What tests need of the kernel."""

import ctypes
import os

import pytest

_LANDLOCK_CREATE_RULESET = 444
_VERSION = 1


def need_sandbox() -> None:
    """Skip the test where the kernel has no Landlock, or fail it: TACITLY_REQUIRE_SANDBOX=1.

    Asked without the library that the product uses.
    """
    if ctypes.CDLL(None).syscall(_LANDLOCK_CREATE_RULESET, None, 0, _VERSION) > 0:
        return
    if os.environ.get("TACITLY_REQUIRE_SANDBOX") == "1":
        pytest.fail("the kernel has no Landlock and TACITLY_REQUIRE_SANDBOX=1")
    pytest.skip("the kernel has no Landlock (Linux 5.13, lsm=landlock)")
