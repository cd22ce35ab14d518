#!/usr/bin/env -S python3 -S -E
"""An adb whose device is a folder: its files, exit codes and texts are those of the real one (34.0 and Debian's 29.0).

FAKE_ADB_HOME is the folder; FAKE_ADB_FAULT what goes wrong; FAKE_ADB_THERMAL the thermal status at each question, as
`0,3`; FAKE_ADB_ABI what the device runs; FAKE_ADB_PROPERTIES more properties, as `name=value` lines.
"""

import os
import sys

# NOTE: Why neither pathlib nor subprocess: it is started ten times in a test, and they take longer than all it does.
HOME = os.environ["FAKE_ADB_HOME"]
FAULT = os.environ.get("FAKE_ADB_FAULT", "")
SERIAL = "R5CT10ABCDE"
PLACE = "/data/local/tmp"
STORED = f"{HOME}/tmp"
LOST, TURN = f"{HOME}/lost", f"{HOME}/turn"
DETAILS = "usb:1-2 product:shiba model:Pixel_8 device:shiba transport_id:"

UNAUTHORIZED = (
    "device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\nTry 'adb kill-server' if that seems wrong.\n"
    "Otherwise check for a confirmation dialog on your device."
)
STATES = {"unauthorized": "unauthorized", "offline": "offline", "recovery": "recovery"}
PERMISSIONS = "no permissions (user in plugdev group; are your udev rules wrong?); see [http://developer.android.com]"

BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: 87
  scale: 100
  voltage: 4321
  temperature: 274
  technology: Li-ion
"""
THERMAL = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
\tkilled: false
\tbroadcasts count: -1
ThermalStatusListeners:
\tcallbacks: 5
\tkilled: false
\tbroadcasts count: -1
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue=31.2, mType=3, mName=VIRTUAL-SKIN, mStatus={status}}}
\tTemperature{{mValue=38.0, mType=0, mName=BIG, mStatus=0}}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 1 connected: yes
Current temperatures from HAL:
\tTemperature{{mValue=31.2, mType=3, mName=VIRTUAL-SKIN, mStatus={status}}}
Current cooling devices from HAL:
Temperature static thresholds from HAL:
"""


def properties():
    found = {
        "ro.product.manufacturer": "Google",
        "ro.product.model": "Pixel 8",
        "ro.soc.manufacturer": "Google",
        "ro.soc.model": "Tensor G3",
        "ro.board.platform": "zuma",
        "ro.build.version.release": "15",
        "ro.build.version.sdk": "35",
        "ro.product.cpu.abi": "arm64-v8a",
        "ro.product.cpu.abilist": os.environ.get("FAKE_ADB_ABI", "arm64-v8a"),
        "ro.build.fingerprint": "google/shiba/shiba:15/AP3A.241105.007/12470370:user/release-keys",
    }
    more = os.environ.get("FAKE_ADB_PROPERTIES", "").splitlines()
    found.update(line.split("=", 1) for line in more)
    return "".join(f"[{name}]: [{value}]\n" for name, value in found.items())


def fail(text, code=1):
    print(text, file=sys.stderr)
    sys.exit(code)


def devices():
    if FAULT == "server":
        fail(
            "* daemon not running; starting now at tcp:5037\nADB server didn't ACK\n* failed to start daemon\n"
            "error: cannot connect to daemon"
        )
    lines = ["List of devices attached"]
    state = STATES.get(FAULT, "device")
    if FAULT == "no permissions":
        lines.append(f"{SERIAL}            {PERMISSIONS}")
    elif FAULT not in ("none", "lost"):
        lines.append(f"{SERIAL}            {state} {DETAILS}1")
    if FAULT == "several":
        lines.append("emulator-5554          device product:sdk model:sdk device:emu64 transport_id:2")
    print("\n".join(lines) + "\n")


def require(serial):
    """End as adb does where the device cannot be spoken to."""
    if os.path.exists(LOST) or FAULT == "none":
        fail(f"error: device '{serial}' not found" if serial else "error: no devices/emulators found")
    if FAULT == "unauthorized":
        fail(f"error: {UNAUTHORIZED}")
    if FAULT == "offline":
        fail("error: device offline")
    if FAULT == "several" and not serial:
        fail("error: more than one device/emulator")


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def dumpsys():
    """Write what `dumpsys` answers into files, the thermal status being the next of those to come."""
    statuses = os.environ.get("FAKE_ADB_THERMAL", "0").split(",")
    number = os.path.getsize(TURN) if os.path.exists(TURN) else 0
    status = statuses[min(number, len(statuses) - 1)]
    text = THERMAL.format(status=status) if status else "Can't find service: thermalservice\n"
    write(f"{HOME}/thermalservice", text)
    write(f"{HOME}/battery", BATTERY)
    write(f"{HOME}/properties", properties())


def shell(words):
    command = " ".join(words).replace(PLACE, STORED)
    dumpsys()
    if "dumpsys thermalservice" in command:
        with open(TURN, "a") as turn:
            turn.write(".")
    with open(f"{HOME}/log", "a") as log:
        log.write(" ".join(words) + "\n")
    if "exec" in command and FAULT == "lost half-way":
        write(LOST, "")
        fail("error: closed")
    functions = f'getprop() {{ cat "{HOME}/properties"; }}\ndumpsys() {{ cat "{HOME}/$1"; }}\n'
    script = functions + command
    if FAULT == "old":  # before Android 7: one stream, a terminal's ends of lines, and no exit code
        write(f"{HOME}/script", script)
        script = f'sh "{HOME}/script" 2>&1 | sed "s/$/\r/"; exit 0'
    sys.stdout.flush()
    os.execv("/bin/sh", ["sh", "-c", script])


def push(source, to):
    if FAULT == "no space" and source.endswith((".tflite", ".onnx")):
        fail(f"adb: error: failed to copy '{source}' to '{to}': remote write failed: No space left on device")
    if FAULT == "lost at push":
        write(LOST, "")
        fail(f"adb: error: failed to copy '{source}' to '{to}': failed to read copy response: EOF")
    target = to.replace(PLACE, STORED)
    if not os.path.isdir(os.path.dirname(target)):
        fail(f"adb: error: failed to copy '{source}' to '{to}': remote couldn't create file: No such file or directory")
    with open(source, "rb") as given, open(target, "wb") as taken:
        size = taken.write(given.read())
    os.chmod(target, 0o644)
    print(f"{source}: 1 file pushed, 0 skipped. 31.7 MB/s ({size} bytes in 0.001s)")


def main(words):
    os.makedirs(STORED, exist_ok=True)
    serial = ""
    if words[:1] == ["-s"]:
        serial, words = words[1], words[2:]
    if words[0] in ("start-server", "kill-server"):
        return
    if words[0] == "devices":
        devices()
        return
    require(serial)
    if words[0] == "wait-for-device":
        return
    if words[0] == "get-state":
        print("device")
    elif words[0] == "shell":
        shell(words[1:])
    elif words[0] == "push":
        push(words[1], words[2])
    else:
        fail(f"adb: unknown command {words[0]}")


main(sys.argv[1:])
