"""Where a number was measured; every measurement says so, and one is never put in the place of another."""

from __future__ import annotations

from enum import Enum


class Where(Enum):
    """This machine, an emulator of a device, or a device itself."""

    HOST = "host"
    EMULATED = "emulated"
    DEVICE = "device"
