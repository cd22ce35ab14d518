"""What is asked of timing on a device instead of on this machine, as data and as options of the command line."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

import click

from convert.errors import UsageError

HOST, ADB = "host", "adb"

_MASK = re.compile(r"(0[xX])?[0-9a-fA-F]{1,16}")


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """An Android device reached through `adb`, and the benchmark tools that are pushed to it.

    `tools` are paths, one per format as `FORMAT=PATH`, or a single path where one format is timed. `files` are pushed
    beside them, such as shared libraries; `arguments` are handed to the tool as they are. `cores` is a mask of the
    cores that it is kept on, in hexadecimal as `taskset` takes it; empty for all.
    """

    serial: str = ""
    tools: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    cores: str = ""
    adb: str = ""  # path of the program; else it is looked for

    def tool(self, form: str) -> str:
        """Give the path of the tool for a format, or nothing where none is given."""
        stated = dict(tool.split("=", 1) for tool in self.tools if _prefixed(tool))
        return stated.get(form) or next((tool for tool in self.tools if not _prefixed(tool)), "")


def _prefixed(tool: str) -> bool:
    return re.match(r"[a-z]+=", tool) is not None


def device_from(
    device: str,
    tools: tuple[str, ...] = (),
    files: tuple[str, ...] = (),
    arguments: tuple[str, ...] = (),
    cores: str = "",
    adb: str = "",
) -> DeviceRequest | None:
    """Read what the options say; None for this machine. Raises UsageError for what makes no sense."""
    kind, colon, serial = device.partition(":")
    if kind == HOST and not colon:
        stated = {"benchmark-tool": tools, "benchmark-file": files, "benchmark-arg": arguments, "taskset": cores}
        for option, value in {**stated, "adb": adb}.items():
            if value:
                raise UsageError(
                    f"--{option} has no meaning where nothing is timed on a device", fix="add --device adb"
                )
        return None
    if kind != ADB or (colon and not serial):
        raise UsageError(
            f"cannot read --device {device!r}",
            fix="give adb, adb:SERIAL as `adb devices` lists it, or host for this machine",
        )
    if not tools:
        raise UsageError(
            "--device adb needs the tool that is to time there",
            fix="add --benchmark-tool PATH: benchmark_model of LiteRT for TFLite, onnxruntime_perf_test for ONNX, "
            "built for Android",
        )
    if cores and (_MASK.fullmatch(cores) is None or int(cores, 16) == 0):
        raise UsageError(f"--taskset {cores} is no mask of cores", fix="give it in hexadecimal: f0 are cores 4 to 7")
    return DeviceRequest(serial, tools, files, arguments, cores, adb)


def device_words(device: DeviceRequest | None) -> tuple[tuple[str, str], ...]:
    """Give the options that ask for a device, for `convert.spec.command_line`."""
    if device is None:
        return ()
    return (
        ("device", f"{ADB}:{device.serial}" if device.serial else ADB),
        *(("benchmark-tool", tool) for tool in device.tools),
        *(("benchmark-file", file) for file in device.files),
        *(("benchmark-arg", argument) for argument in device.arguments),
        ("taskset", device.cores),
        ("adb", device.adb),
    )


def device_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where to time; the command gets one argument `device` of them all.

    They are read inside the command, so that what they say wrong is answered as its other errors are.
    """

    @functools.wraps(command)
    def run(
        *words: object,
        device: str,
        tools: tuple[str, ...],
        files: tuple[str, ...],
        arguments: tuple[str, ...],
        cores: str,
        adb: str,
        **options: object,
    ) -> None:
        asked = functools.partial(device_from, device, tools, files, arguments, cores, adb)
        command(*words, device=asked, **options)

    added: Callable[..., None] = run
    for option in reversed(_OPTIONS):
        added = option(added)
    return added


_OPTIONS = (
    click.option(
        "--device",
        default=HOST,
        show_default=True,
        metavar="host|adb[:SERIAL]",
        help="Where to time: on this machine, or on an Android device through adb, never one for the other.",
    ),
    click.option(
        "--benchmark-tool",
        "tools",
        multiple=True,
        metavar="[FORMAT=]PATH",
        help="What times on the device, built for it: LiteRT's benchmark_model, ONNX Runtime's onnxruntime_perf_test.",
    ),
    click.option(
        "--benchmark-file",
        "files",
        multiple=True,
        metavar="PATH",
        help="A file that the tool needs beside it, such as libonnxruntime.so. Repeat it for several.",
    ),
    click.option(
        "--benchmark-arg",
        "arguments",
        multiple=True,
        metavar="WORD",
        help="A word for the tool itself, such as --use_gpu=true. Repeat it for several.",
    ),
    click.option(
        "--taskset", "cores", default="", metavar="MASK", help="Cores of the device to stay on, such as f0 for 4 to 7."
    ),
    click.option("--adb", default="", metavar="PATH", help="The adb program.  [default: on PATH, or of the SDK]"),
)
