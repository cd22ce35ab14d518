"""The first look at a file: enough of its bytes to tell what it is, without running or unpacking anything."""

from __future__ import annotations

import io
import os
import pickletools
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from convert.errors import UnknownSource

HEAD_BYTES = 4096
#: An archive that unpacks to more than this many times its size is taken for a bomb; real weights hardly compress.
BOMB_RATIO = 200
WHOLE = 1 << 40  # bytes: no limit for a member that must be looked at to its end
BOMB_BYTES = 1 << 30
FOLDER_DEPTH = 3  # levels of a folder that are looked at; `1/variables/variables.index` is the deepest known model file

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
    """What a file shows at first sight: its first bytes and, where it is a zip archive or a folder, its members."""

    path: Path
    head: bytes
    members: tuple[str, ...] = field(default=())
    is_folder: bool = False

    @property
    def is_zip(self) -> bool:
        """Whether the file is a readable zip archive."""
        return bool(self.members) and not self.is_folder

    @cached_property
    def root(self) -> str:
        """The folder that holds everything in an archive that PyTorch wrote, or an empty string."""
        first = {name.split("/", 1)[0] for name in self.members}
        return first.pop() if len(first) == 1 else ""

    def has(self, name: str) -> bool:
        """Whether the archive has a member `name`, below its root folder or not."""
        return self.is_zip and (name in self.members or f"{self.root}/{name}" in self.members)

    def read(self, name: str, limit: int = 1 << 26) -> bytes:
        """Read one member, at most `limit` bytes of it; raises UnknownSource where it is damaged."""
        member = name if name in self.members else f"{self.root}/{name}"
        if self.is_folder:
            try:
                with (self.path / member).open("rb") as stream:
                    return stream.read(limit)
            except OSError as error:
                raise UnknownSource(
                    f"{name} in {self.path} cannot be read: {error.strerror}",
                    fix="check its permissions",
                ) from error
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as stream:
                return stream.read(limit)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError) as error:
            raise UnknownSource(
                f"{name} in {self.path} cannot be read: {error}", fix="copy or download the file again"
            ) from error

    def verify(self) -> None:
        """Raise UnknownSource where a member of the archive is not what its checksum says."""
        if not self.is_zip:
            return
        try:
            with zipfile.ZipFile(self.path) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError) as error:
            raise truncated(self.path) from error
        if damaged is not None:
            raise UnknownSource(
                f"{self.path} is damaged: {damaged} does not match its checksum", fix="copy or download the file again"
            )

    def looks_like(self) -> str:
        """Describe a file that no source recognised."""
        if self.is_folder:
            return f"a folder (of {', '.join(self.members[:3])}, ...)" if self.members else "an empty folder"
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
        return Probe(path, b"", _files(path), is_folder=True)
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head.startswith(b"PK\x03\x04"):
        return Probe(path, head)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise truncated(path) from error
    # An archive within a truncated one is found in its place; only the whole file's own starts at its first byte.
    if min((entry.header_offset for entry in entries), default=0) != 0:
        raise truncated(path)
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if ".." in parts or entry.filename.startswith(("/", "\\")):
            raise UnknownSource(
                f"{path} has a member that would be written outside its folder: {entry.filename!r}",
                fix="do not open this file; ask whoever made it",
            )
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise UnknownSource(
            f"{path} has two members of one name, of which different readers read different ones",
            fix="do not open this file; ask whoever made it",
        )
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * path.stat().st_size:
        raise UnknownSource(
            f"{path} would unpack to {unpacked:,} bytes, {unpacked // path.stat().st_size} times its size",
            fix="do not open this file; model weights do not compress like that",
        )
    return Probe(path, head, tuple(entry.filename for entry in entries))


def _files(folder: Path) -> tuple[str, ...]:
    """Name the files of a folder, relative to it, a few levels deep; links to other folders are not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        found += [(inside / name).as_posix() for name in names]
        if len(inside.parts) + 1 >= FOLDER_DEPTH:
            folders.clear()
    return tuple(sorted(found))


def truncated(path: Path) -> UnknownSource:
    """Build the error for a zip archive that is not whole."""
    return UnknownSource(
        f"{path} starts like a zip archive, as .keras, .pt and .pt2 files are, but is truncated or damaged",
        fix="copy or download it again, and compare its size with the original's",
    )


#: What a pickle of tensors and containers imports, as torch.save writes it: all of it only builds tensors.
_WEIGHT_GLOBALS = frozenset(
    {
        "_codecs.encode",
        "collections.OrderedDict",
        "numpy.dtype",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
    }
    | {f"torch.storage.{name}" for name in ("UntypedStorage", "TypedStorage")}
    | {f"torch._tensor.{name}" for name in ("_rebuild_from_type_v2",)}
    | {
        f"torch._utils.{name}"
        for name in (
            *("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"),
            *("_rebuild_parameter", "_rebuild_parameter_with_state", "_rebuild_sparse_tensor"),
            *("_rebuild_meta_tensor_no_storage", "_rebuild_nested_tensor"),
        )
    }
)
_TORCH_DTYPES = ("float", "bfloat", "double", "half", "int", "uint", "short", "long", "bool", "complex", "q")
_UNRESOLVED = "a name made up while it is read"


def foreign_globals(pickled: bytes) -> tuple[str, ...]:
    """Name what a pickle would import beyond tensors and containers, without running it.

    Each of these is code that unpickling would call. Raises UnknownSource for a stream that is no pickle.
    """
    found: dict[str, None] = {}
    pushed: list[str | None] = [None, None]  # the strings on top of the stack; None for anything else
    memo: dict[int, str | None] = {}
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(pickled)):
            if opcode.name in ("GLOBAL", "INST"):
                found[str(argument).replace(" ", ".")] = None
            elif opcode.name == "STACK_GLOBAL":
                module, name = pushed[-2:]
                found[f"{module}.{name}" if module and name else _UNRESOLVED] = None
            elif opcode.name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
                memo[len(memo) if argument is None else int(argument)] = pushed[-1]
                continue
            elif opcode.name in ("FRAME", "PROTO"):
                continue
            elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
                pushed.append(memo.get(int(argument or 0)))
                continue
            pushed.append(argument if isinstance(argument, str) and "UNICODE" in opcode.name else None)
    except (ValueError, IndexError) as error:
        raise UnknownSource(
            f"its pickle cannot be read ({error})", fix="the file is damaged; copy or save it again"
        ) from error
    return tuple(name for name in found if not _builds_tensors(name))


def _builds_tensors(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if module == "torch" and not attribute.startswith("_"):
        # Storage classes (FloatStorage) and dtypes (float32); all other names of the package are functions or modules.
        return attribute.endswith("Storage") or attribute.rstrip("0123456789").startswith(_TORCH_DTYPES)
    return name in _WEIGHT_GLOBALS
