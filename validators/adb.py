"""Android devices through `adb`: which are there, running a command on one, pushing files, and what went wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.errors import DeviceError, UsageError

#: A question to the device or to adb's server is answered in milliseconds; a server that starts takes 3 s.
QUERY_SECONDS = 30.0

#: The least that a file is pushed with, in bytes per second: a tenth of what adb reaches over Wi-Fi.
PUSH_RATE = 1e6

#: So long a device may take to show up after adb's server started, and to come back from `offline`.
REACH_SECONDS = 6.0
AGAIN_SECONDS = 0.5

#: States that pass by themselves.
PASSING = ("offline", "authorizing", "connecting")

#: Where Android lets a shell write and execute.
PLACE = "/data/local/tmp"

#: What a command's exit code is printed behind: before Android 7, adb does not pass it on, and a connection that breaks
#: ends adb with a code of its own.
_EXIT = "edgeproof-exit:"
_EXITED = re.compile(rf"^{_EXIT}(\d+)\s*$", re.MULTILINE)

#: What adb says where a device went away, or does not let anybody in.
_GONE = re.compile(
    r"no devices/emulators found|device '[^']*' not found|device not found|device offline|device unauthorized|"
    r"device still (?:authorizing|connecting)|error: closed|connection reset|protocol fault|"
    r"cannot connect to daemon|failed to read copy response",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command on the device gave; `exit_code` is None where it was never heard of its end."""

    exit_code: int | None
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """All that it printed."""
        return f"{self.stdout}\n{self.stderr}" if self.stderr else self.stdout


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `adb devices -l`."""

    serial: str
    state: str
    details: str

    def __str__(self) -> str:
        return f"{self.serial} ({self.state})"


@dataclass(frozen=True, slots=True)
class Adb:
    """The adb program and the device that it speaks to."""

    program: str
    serial: str = ""

    def call(self, *words: str, seconds: float = QUERY_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run adb itself; raises DeviceError where it takes longer, or cannot be started."""
        line = [self.program, *(("-s", self.serial) if self.serial else ()), *words]
        try:
            # NOTE: Why a session of its own: Ctrl-C goes to all of a terminal's group, and what was pushed is removed
            # with the same program afterwards.
            return subprocess.run(
                line,
                capture_output=True,
                check=False,
                encoding="utf-8",
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=seconds,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceError(
                f"adb {words[0]} gave no answer within {seconds:g} s",
                fix="see whether the device still answers: adb shell true; replug it, or adb kill-server",
            ) from error
        except OSError as error:
            raise DeviceError(
                f"{self.program} cannot be started: {error.strerror}", fix="give the adb of this system with --adb"
            ) from error

    def shell(self, command: str, seconds: float = QUERY_SECONDS) -> Answer:
        """Run a command on the device, whatever it answers; raises DeviceError where the device went away."""
        # NOTE: Why on a line of its own: what a tool prints need not end with one.
        ran = self.call("shell", f"{command}\nprintf '\\n{_EXIT}%s\\n' \"$?\"", seconds=seconds)
        exited = list(_EXITED.finditer(ran.stdout))
        if not exited:
            self._lost(ran.stderr or ran.stdout or f"adb shell ended with {ran.returncode}")
        end = exited[-1]
        return Answer(int(end[1]), ran.stdout[: end.start()].replace("\r\n", "\n"), ran.stderr.replace("\r\n", "\n"))

    def push(self, file: Path, to: str) -> None:
        """Copy a file to the device; raises DeviceError where that fails."""
        size = file.stat().st_size
        ran = self.call("push", str(file), to, seconds=QUERY_SECONDS + size / PUSH_RATE)
        said = f"{ran.stderr}\n{ran.stdout}".strip()
        if ran.returncode == 0 and "failed to copy" not in said:
            return
        if "No space left on device" in said:
            raise DeviceError(
                f"{file.name} ({size:,} bytes) does not fit onto the device: no space is left",
                fix="make room on its data partition; adb shell df /data says how much there is",
            )
        if _GONE.search(said):
            self._lost(said)
        raise DeviceError(
            f"{file.name} could not be pushed: {last_line(said)}", fix=f"see whether a shell may write to {PLACE}"
        )

    def _lost(self, said: str) -> None:
        raise DeviceError(
            f"the device was lost: {last_line(said)}",
            fix="see that it is attached and awake (adb devices -l), and run it again",
        )


def last_line(text: str) -> str:
    """Give the last line of a text that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was said"


def find(stated: str = "") -> str:
    """Find the adb program: as stated, on PATH, or in the SDK; raises UsageError where there is none."""
    if stated:
        found = shutil.which(stated)
        if found is None:
            raise UsageError(
                f"--adb {stated} is no program that can be run", fix="give the path of adb itself, not of its folder"
            )
        return found
    sdks = [os.environ[name] for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if os.environ.get(name)]
    for name in ("adb", *(str(Path(sdk) / "platform-tools" / "adb") for sdk in sdks)):
        if found := shutil.which(name):
            return found
    looked = ", ".join(["PATH", *(f"{sdk}/platform-tools" for sdk in sdks)])
    raise UsageError(
        f"adb is not installed: looked on {looked}",
        fix="install Android's platform-tools, set ANDROID_HOME, or give the program with --adb PATH",
    )


def listed(adb: Adb) -> list[Listed]:
    """List the devices that adb's server knows; raises DeviceError where there is no server to be had."""
    ran = adb.call("devices", "-l")
    if ran.returncode:
        raise DeviceError(
            f"adb devices failed: {last_line(ran.stderr)}", fix="see what it says: adb kill-server && adb devices"
        )
    lines = ran.stdout.partition("List of devices attached")[2].splitlines()
    return [_parsed(line) for line in lines if line.strip() and not line.startswith("*")]


def _parsed(line: str) -> Listed:
    serial, _, rest = line.strip().partition("\t") if "\t" in line.strip() else line.strip().partition(" ")
    rest = rest.strip()
    state = "no permissions" if rest.startswith("no permissions") else rest.partition(" ")[0]
    return Listed(serial, state, rest.removeprefix(state).strip())


def reach(program: str, serial: str) -> Adb:
    """Choose the device to speak to: the only one there is, or the one of that serial.

    Raises UsageError where there is none, several and no serial, or one that does not let anybody in.
    """
    plain = Adb(program)
    ends = time.monotonic() + REACH_SECONDS
    while True:
        known = listed(plain)
        asked = [one for one in known if one.serial == serial] if serial else known
        if [one for one in asked if one.state not in PASSING] or time.monotonic() > ends:
            break
        time.sleep(AGAIN_SECONDS)
    if not asked:
        raise _missing(serial, known)
    ready = [one for one in asked if one.state == "device"]
    if len(ready) > 1:
        raise UsageError(
            f"several devices are attached: {_named(ready)}",
            fix=f"name one, for example --device adb:{ready[0].serial}",
        )
    if not ready:
        raise _shut(asked)
    return Adb(program, ready[0].serial)


def _missing(serial: str, known: Sequence[Listed]) -> UsageError:
    if serial and known:
        return UsageError(
            f"no device {serial} is attached; there is {_named(known)}", fix="give the serial of one of those"
        )
    return UsageError(
        f"no {'device ' + serial if serial else 'Android device'} is attached",
        fix="attach one with USB debugging switched on (Developer options), or adb connect HOST:PORT; "
        "adb devices -l lists it",
    )


def _shut(asked: Sequence[Listed]) -> UsageError:
    states = {one.state for one in asked}
    if states & {"unauthorized", "authorizing"}:
        fix = "unlock its screen and allow USB debugging in the dialog it shows"
    elif "no permissions" in states:
        fix = "let this user open USB devices: a udev rule for the vendor, and the group plugdev"
    elif "offline" in states:
        fix = "replug it, or adb reconnect; if it stays so, restart it and adb kill-server"
    else:
        fix = "start Android on it, and see that adb devices says device"
    return UsageError(f"no device lets adb in: {_named(asked)}", fix=fix)


def _named(devices: Iterable[Listed]) -> str:
    return ", ".join(map(str, devices))
