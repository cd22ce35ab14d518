"""What a device is and how it does: its model and system, how hot it is, its battery, and what programs it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from validators.adb import Adb
from validators.where import Where

#: Levels of Android's thermal status (PowerManager.THERMAL_STATUS_*).
LEVELS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")

#: From this level on, timings are of a device that slows itself down: Android calls 1 "light throttling where the user
#: experience is not impacted", which a phone that charges reaches at rest, and 2 "moderate throttling".
THROTTLED = 2

#: Machines of ELF files, as Android names what it runs (elf.h; developer.android.com/ndk/guides/abis).
ABIS = {0x03: "x86", 0x28: "armeabi-v7a", 0x3E: "x86_64", 0xB7: "arm64-v8a", 0xF3: "riscv64"}

#: What emulators call their hardware: Android Studio's, Cuttlefish, Genymotion.
EMULATORS = ("ranchu", "goldfish", "cutf_cvm", "vbox86")

_PROPERTY = re.compile(r"^\[([^\]]+)\]: \[(.*)\]\s*$", re.MULTILINE)
_STATUS = re.compile(r"^Thermal Status: (\d+)\s*$", re.MULTILINE)
_BATTERY = re.compile(r"^\s*([\w ]+): (\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Condition:
    """How a device does at one moment; None for what it does not tell."""

    thermal_status: int | None = None  # 0 none to 6 shutdown
    battery_percent: int | None = None
    charging: bool | None = None  # whether it gets power from outside
    battery_celsius: float | None = None

    @property
    def throttled(self) -> bool:
        """Whether it is known to slow itself down by more than a little."""
        return self.thermal_status is not None and self.thermal_status >= THROTTLED

    def __str__(self) -> str:
        known = self.thermal_status is not None and self.thermal_status < len(LEVELS)
        words = [f"thermal status {LEVELS[self.thermal_status or 0] if known else 'not known'}"]
        if self.battery_percent is not None:
            words.append(f"battery {self.battery_percent} %")
        if self.charging is not None:
            words.append("charging" if self.charging else "not charging")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Phone:
    """What a device says of itself, empty where it does not; and how it did before and after timing."""

    model: str
    soc: str
    android: str
    sdk: str
    abis: tuple[str, ...]
    build: str  # its fingerprint
    where: Where
    before: Condition = Condition()
    after: Condition = Condition()

    def __str__(self) -> str:
        words = [self.model or "a device", f"({self.soc})" if self.soc else "", f"Android {self.android or '?'}"]
        return ", ".join(part for part in (" ".join(filter(None, words[:2])), words[2], *self.abis[:1]) if part)


def phone(adb: Adb) -> Phone:
    """Ask a device what it is; raises DeviceError where it went away."""
    told = dict(_PROPERTY.findall(adb.shell("getprop").stdout))

    def first(*names: str) -> str:
        return next((told[name].strip() for name in names if told.get(name, "").strip()), "")

    def joined(*names: str) -> str:
        return " ".join(dict.fromkeys(told[name].strip() for name in names if told.get(name, "").strip()))

    emulated = "1" in (told.get("ro.boot.qemu"), told.get("ro.kernel.qemu")) or first("ro.hardware") in EMULATORS
    return Phone(
        model=joined("ro.product.manufacturer", "ro.product.model"),
        soc=joined("ro.soc.manufacturer", "ro.soc.model") or first("ro.board.platform", "ro.hardware"),
        android=first("ro.build.version.release"),
        sdk=first("ro.build.version.sdk"),
        abis=tuple(filter(None, first("ro.product.cpu.abilist", "ro.product.cpu.abi").split(","))),
        build=first("ro.build.fingerprint"),
        where=Where.EMULATED if emulated else Where.DEVICE,
    )


def condition(adb: Adb) -> Condition:
    """Ask a device how it does; what it does not tell is None. Raises DeviceError where it went away."""
    told = adb.shell("dumpsys thermalservice; dumpsys battery").stdout
    status = _STATUS.search(told)
    battery = dict(_BATTERY.findall(told.partition("Battery Service state")[2]))
    powered = [value for name, value in battery.items() if name.strip().endswith("powered")]
    tenths = battery.get("temperature", "")
    return Condition(
        int(status[1]) if status else None,
        int(battery["level"]) if battery.get("level", "").isdigit() else None,
        "true" in powered if powered else None,
        int(tenths) / 10 if tenths.lstrip("-").isdigit() else None,
    )


def abi_of(program: Path) -> str | None:
    """Say which ABI a program is built for: empty for a script, None for what a device cannot run."""
    with program.open("rb") as file:
        head = file.read(20)
    if head[:2] == b"#!":
        return ""
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    return ABIS.get(int.from_bytes(head[18:20], "little" if head[5] == 1 else "big"))
