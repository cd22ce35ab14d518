"""TensorFlow Hub modules: a SavedModel folder packed as a `.tar.gz`."""

from __future__ import annotations

import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from convert.errors import UnknownSource
from convert.sources import SOURCES, TENSORFLOW, LoadedModel, Probe, Source
from convert.sources._probe import BOMB_BYTES, BOMB_RATIO
from convert.sources._saved_model import load_saved_model, place_of
from convert.spec import LoadOptions, SourceFile

MAGIC = b"\x1f\x8b\x08"

#: What reading a damaged archive raises.
_DAMAGE = (tarfile.TarError, zlib.error, EOFError, OSError)


def recognise(seen: Probe) -> str | None:
    """Know the archive by the graph file in it; all of it is read, so that what loading unpacks has been checked."""
    if not seen.head.startswith(MAGIC):
        return None
    try:
        with tarfile.open(seen.path, "r:gz") as archive:
            first = archive.next()
            if first is None:
                return None
    except tarfile.TarError:
        return None  # something else that is compressed
    except _DAMAGE as error:
        raise _damaged(seen.path) from error
    with tarfile.open(seen.path, "r:gz") as archive:
        names = [member.name for member in checked(archive, seen.path) if member.isfile()]
    return "TensorFlow Hub module" if _place(names) is not None else None


def checked(archive: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """Give an archive's members one by one.

    Raises UnknownSource for one that would be written outside the folder, is a link or a device, or would flood the
    disk, and for an archive that is not whole.
    """
    fix = "do not open this file; ask whoever made it"
    limit = max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)
    unpacked = 0
    while True:
        try:
            member = archive.next()
        except _DAMAGE as error:
            raise _damaged(path) from error
        if member is None:
            return
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise UnknownSource(
                f"{path} has a member that would be written outside its folder: {member.name!r}", fix=fix
            )
        if not (member.isfile() or member.isdir()):
            raise UnknownSource(f"{path} has a member that is neither file nor folder: {member.name!r}", fix=fix)
        unpacked += member.size
        if unpacked > limit:
            raise UnknownSource(f"{path} would unpack to more than {limit:,} bytes", fix=fix)
        yield member


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Unpack the module, load it, and remove what was unpacked: its variables are in memory by then."""
    path = Path(file.path)
    with tempfile.TemporaryDirectory(prefix="edgeproof-") as folder:
        names = []
        with tarfile.open(path, "r:gz") as archive:
            for member in checked(archive, path):
                archive.extract(member, folder, filter="data")
                names += [member.name] if member.isfile() else []
        place = _place(names)
        if place is None:
            raise UnknownSource(f"{path} is no TensorFlow Hub module any more", fix="check the file")
        return load_saved_model(Path(folder) / place, file, options)


def _place(names: list[str]) -> PurePosixPath | None:
    """Find the SavedModel among an archive's files, below the one folder that holds them all or at its top."""
    paths = [PurePosixPath(name) for name in names]
    first = {path.parts[0] for path in paths}
    root = PurePosixPath(first.pop() if len(first) == 1 and all(len(path.parts) > 1 for path in paths) else "")
    place = place_of(tuple(path.relative_to(root).as_posix() for path in paths))
    return None if place is None else root / place


def _damaged(path: Path) -> UnknownSource:
    return UnknownSource(f"{path} is a gzip archive that is truncated or damaged", fix="copy or download it again")


SOURCES.register(Source("tf_hub", "TensorFlow Hub module (.tar.gz)", TENSORFLOW, recognise, load, has_signatures=True))
