"""The first look at a file: enough of its bytes to tell what it is, without running or unpacking anything."""

from __future__ import annotations

import io
import pickletools
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from convert.errors import UnknownSource

HEAD_BYTES = 4096
#: An archive that unpacks to more than this many times its size is taken for a bomb; real weights hardly compress.
BOMB_RATIO = 200
BOMB_BYTES = 1 << 30

_OTHER_FORMATS = (
    (4, b"TFL3", "a TFLite model"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x7fELF", "a program"),
    (0, b"\x93NUMPY", "a NumPy array"),
)


@dataclass(frozen=True)
class Probe:
    """What a file shows at first sight: its first bytes and, where it is a zip archive, its members."""

    path: Path
    head: bytes
    members: tuple[str, ...] = field(default=())  # of a zip archive
    is_folder: bool = False

    @property
    def is_zip(self) -> bool:
        """Whether the file is a readable zip archive."""
        return bool(self.members)

    @cached_property
    def root(self) -> str:
        """The folder that holds everything in an archive that PyTorch wrote, or an empty string."""
        first = {name.split("/", 1)[0] for name in self.members}
        return first.pop() if len(first) == 1 else ""

    def has(self, name: str) -> bool:
        """Whether the archive has a member `name`, below its root folder or not."""
        return name in self.members or f"{self.root}/{name}" in self.members

    def read(self, name: str, limit: int = 1 << 26) -> bytes:
        """Read one member, at most `limit` bytes of it."""
        member = name if name in self.members else f"{self.root}/{name}"
        with zipfile.ZipFile(self.path) as archive, archive.open(member) as stream:
            return stream.read(limit)

    def looks_like(self) -> str:
        """Describe a file that no source recognised."""
        if self.is_folder:
            return "a folder"
        if not self.head:
            return "empty"
        for offset, magic, what in _OTHER_FORMATS:
            if self.head[offset : offset + len(magic)] == magic:
                return what
        if self.is_zip:
            return f"a zip archive (of {', '.join(self.members[:3])}, ...)"
        if b"\x00" not in self.head:
            try:
                line = self.head.decode().strip().splitlines()[:1]
            except UnicodeDecodeError:
                return "binary data of an unknown kind"
            return f"text (it starts with {line[0][:40]!r})" if line else "blank text"
        return "binary data of an unknown kind"


def probe(path: Path) -> Probe:
    """Look at a file.

    Raises:
        OSError: it cannot be read.
        UnknownSource: it is a zip archive that is damaged, or whose members would escape or flood the disk.
    """
    if path.is_dir():
        return Probe(path, b"", is_folder=True)
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head.startswith(b"PK\x03\x04"):
        return Probe(path, head)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise UnknownSource(
            f"{path} starts like a zip archive, as .keras, .pt and .pt2 files are, but is truncated or damaged",
            fix="copy or download it again, and compare its size with the original's",
        ) from error
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if ".." in parts or entry.filename.startswith(("/", "\\")):
            raise UnknownSource(
                f"{path} has a member that would be written outside its folder: {entry.filename!r}",
                fix="do not open this file; ask whoever made it",
            )
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * path.stat().st_size:
        raise UnknownSource(
            f"{path} would unpack to {unpacked:,} bytes, {unpacked // path.stat().st_size} times its size",
            fix="do not open this file; model weights do not compress like that",
        )
    return Probe(path, head, tuple(entry.filename for entry in entries))


#: The globals PyTorch's own weights-only unpickler allows that matter for a dictionary of tensors.
_WEIGHT_MODULES = ("torch", "torch._utils", "torch.storage", "torch.serialization", "torch._tensor")
_WEIGHT_GLOBALS = {"collections.OrderedDict", "torch.nn.parameter.Parameter", "_codecs.encode", "numpy.dtype"}


def foreign_globals(pickled: bytes) -> tuple[str, ...]:
    """Name what a pickle would import beyond tensors and containers, without running it.

    Each of these is code that unpickling would call. Raises UnknownSource for a stream that is no pickle.
    """
    found: dict[str, None] = {}
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(pickled)):
            if opcode.name in ("GLOBAL", "INST"):
                found[str(argument).replace(" ", ".")] = None
            elif opcode.name == "STACK_GLOBAL":
                found[".".join(strings[-2:])] = None
            elif isinstance(argument, str):
                strings.append(argument)
    except (ValueError, IndexError) as error:
        raise UnknownSource(
            f"its pickle cannot be read ({error})", fix="the file is damaged; copy or save it again"
        ) from error
    return tuple(
        name
        for name in found
        if name not in _WEIGHT_GLOBALS
        and not (name.rpartition(".")[0] in _WEIGHT_MODULES and not name.startswith("torch.load"))
    )
