"""Model files that would run code or write files when read: none may, unless the user said --trust."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[3] / "samples"

#: Makes an archive's members hostile; the file it is given exists once their code ran.
Corrupt = Callable[[dict[str, bytes], Path], dict[str, bytes]]


def members_of(sample: str) -> tuple[str, dict[str, bytes]]:
    """Give an archive's root folder and its members below it."""
    with zipfile.ZipFile(SAMPLES / sample) as archive:
        names = archive.namelist()
        root = names[0].split("/", 1)[0]
        return root, {name.removeprefix(f"{root}/"): archive.read(name) for name in names}


def touching(path: Path) -> bytes:
    """Write a pickle that touches `path` when it is unpickled."""
    return b"cposix\nsystem\n(S'touch %s'\ntR." % str(path).encode()


def touching_by_memo(path: Path) -> bytes:
    """Write such a pickle whose function is named in the memo, behind harmless names."""
    command = f"touch {path}".encode()
    harmless = b"\x8c\x0ctorch._utils0\x8c\x12_rebuild_tensor_v20"
    return (
        b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x9400" + harmless + b"h\x00h\x01\x93"
        b"\x8c" + bytes([len(command)]) + command + b"\x85R."
    )


def touching_by_numbered_memo(path: Path) -> bytes:
    """Write such a pickle whose memo is filled by number first and by order later, which readers may number apart."""
    command = f"touch {path}".encode()
    by_number = b"\x8c\x05posixq\x000\x8c\x06systemq\x010"
    by_order = b"\x8c\x0ctorch._utils\x940\x8c\x12_rebuild_tensor_v2\x940"
    return b"\x80\x04" + by_number + by_order + b"h\x00h\x01\x93\x8c" + bytes([len(command)]) + command + b"\x85R."


def saved(*pickles: bytes) -> bytes:
    """Wrap a pickle the way torch.save does, or several of one name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings(action="ignore"):
        for pickled in pickles:
            archive.writestr("archive/data.pkl", pickled)
        for name, content in (("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


HARMLESS = b"\x80\x02}."  # an empty dictionary


def payload_config(name: str) -> bytes:
    """Describe one payload of a .pt2 archive as a pickle in the file `name`."""
    entry = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}
    return json.dumps({"config": {"hidden": entry}}).encode()


def constant_object(members: dict[str, bytes], proof: Path) -> dict[str, bytes]:
    config = {"data/constants/model_constants_config.json": payload_config("opaque_obj_0")}
    return {**members, **config, "data/constants/opaque_obj_0": touching(proof)}


def constant_tensor(members: dict[str, bytes], proof: Path) -> dict[str, bytes]:
    config = {"data/constants/model_constants_config.json": payload_config("tensor_0")}
    return {**members, **config, "data/constants/tensor_0": saved(touching(proof))}


def weight(members: dict[str, bytes], proof: Path) -> dict[str, bytes]:
    config = json.loads(members["data/weights/model_weights_config.json"])
    first = next(iter(config["config"].values()))
    first["use_pickle"] = True
    config_file = {"data/weights/model_weights_config.json": json.dumps(config).encode()}
    return {**members, **config_file, f"data/weights/{first['path_name']}": saved(touching(proof))}


def weight_called(path_name: str, content: Callable[[Path], bytes]) -> Corrupt:
    """Move the first weight to a file of another name, as a pickle."""

    def corrupt(members: dict[str, bytes], proof: Path) -> dict[str, bytes]:
        config = json.loads(members["data/weights/model_weights_config.json"])
        next(iter(config["config"].values())).update(use_pickle=True, path_name=path_name)
        config_file = {"data/weights/model_weights_config.json": json.dumps(config).encode()}
        return {**members, **config_file, f"data/weights/{path_name}": content(proof)}

    return corrupt


def weights_of_old_layout(members: dict[str, bytes], proof: Path) -> dict[str, bytes]:
    return {**members, "data/weights/model.pt": saved(touching(proof))}


def sample_inputs_of(content: Callable[[Path], bytes]) -> Corrupt:
    def corrupt(members: dict[str, bytes], proof: Path) -> dict[str, bytes]:
        return {**members, "data/sample_inputs/model.pt": content(proof)}

    return corrupt


def sample_inputs_of_a_second_model(members: dict[str, bytes], proof: Path) -> dict[str, bytes]:
    of_each_model = [name for name in members if Path(name).name.startswith("model")]
    second = {
        str(Path(name).parent / Path(name).name.replace("model", "other", 1)): members[name] for name in of_each_model
    }
    return {**members, **second, "data/sample_inputs/other.pt": saved(touching(proof))}


def compiled(members: dict[str, bytes], proof: Path) -> dict[str, bytes]:
    """Add a compiled model; whatever its library holds would run when it is opened."""
    folder = "data/aotinductor/compiled/weight_0.wrapper"
    return {**members, f"{folder}.so": b"\x7fELF", f"{folder}_metadata.json": b'{"AOTI_DEVICE_KEY": "cpu"}'}


def program_of_before_2_9(members: dict[str, bytes], proof: Path) -> dict[str, bytes]:
    empty = {"serialized_constants.pt": b"", "serialized_example_inputs.pt": b"", "version": b"8.8"}
    program = {"serialized_exported_program.json": members["models/model.json"]}
    return {**empty, **program, "serialized_state_dict.pt": saved(touching(proof))}


def script_that_says(call: str) -> Corrupt:
    """Let the model's code begin with a call; `PROOF` in it is the file to write."""

    def corrupt(members: dict[str, bytes], proof: Path) -> dict[str, bytes]:
        (code,) = [name for name in members if name.endswith("digits_torch.py")]
        first = "    classifier = self.classifier\n"
        text = members[code].decode()
        assert first in text, "the sample's code is written otherwise now"
        changed = text.replace(first, f"    {call.replace('PROOF', str(proof))}\n{first}")
        return {**members, code: changed.encode()}

    return corrupt


SAVES = 'torch.save(image, "PROOF")'


@dataclass(frozen=True)
class Hidden:
    """One place to hide code in: a sample archive, how to change its members, and where they lie."""

    sample: str
    corrupt: Corrupt
    rooted: bool = True  # below the archive's one root folder, as PyTorch writes them since 2.9
    beside: tuple[str, ...] = ()  # members repeated outside of it, so that readers disagree on what the root is

    def write(self, path: Path) -> None:
        """Write the hostile file; its code would make `path` with the suffix `.ran`."""
        root, members = members_of(self.sample)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in self.corrupt(members, path.with_suffix(".ran")).items():
                archive.writestr(f"{root}/{name}" if self.rooted else name, content)
            for name in self.beside:
                archive.writestr(name, members[name])


SIGNED = ("constants.pkl", "data.pkl", "extra/signature.json")

HOSTILE = {
    "an object among the constants": Hidden("digits.pt2", constant_object),
    "a pickled constant": Hidden("digits.pt2", constant_tensor),
    "a pickled weight": Hidden("digits.pt2", weight),
    "a pickled weight with the name of JSON": Hidden(
        "digits.pt2", weight_called("0.json", lambda p: saved(touching(p)))
    ),
    "a pickled weight in a folder": Hidden("digits.pt2", weight_called("below/weight_0", touching)),
    "weights in the old layout": Hidden("digits.pt2", weights_of_old_layout),
    "example inputs": Hidden("digits.pt2", sample_inputs_of(lambda p: saved(touching(p)))),
    "example inputs without an archive": Hidden("digits.pt2", sample_inputs_of(touching)),
    "example inputs by the memo": Hidden("digits.pt2", sample_inputs_of(lambda p: saved(touching_by_memo(p)))),
    "example inputs by a numbered memo": Hidden(
        "digits.pt2",
        sample_inputs_of(lambda p: saved(touching_by_numbered_memo(p))),
    ),
    "example inputs before harmless ones": Hidden(
        "digits.pt2", sample_inputs_of(lambda p: saved(touching(p), HARMLESS))
    ),
    "example inputs after harmless ones": Hidden(
        "digits.pt2", sample_inputs_of(lambda p: saved(HARMLESS, touching(p)))
    ),
    "example inputs of a second model": Hidden("digits.pt2", sample_inputs_of_a_second_model),
    "a program of before PyTorch 2.9": Hidden("digits.pt2", program_of_before_2_9, rooted=False),
    "a compiled model": Hidden("digits.pt2", compiled),
    "TorchScript that saves": Hidden("digits.pt", script_that_says(SAVES)),
    "TorchScript that saves after a space": Hidden("digits.pt", script_that_says(SAVES.replace("(", " ("))),
    "TorchScript that saves by its operator": Hidden(
        "digits.pt", script_that_says(SAVES.replace("torch.", "ops.aten."))
    ),
    "TorchScript that saves, of two roots": Hidden("digits.pt", script_that_says(SAVES), beside=SIGNED),
    "TorchScript that maps a file": Hidden(
        "digits.pt",
        script_that_says('written = torch.from_file("PROOF", True, 4, dtype=6, layout=0, device=torch.device("cpu"))'),
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, tuple[str, bool]]:
    """Load every hostile file, all in one process; say how each was refused and whether its code ran."""
    folder = tmp_path_factory.mktemp("hostile")
    files = {title: folder / f"{i}{Path(hidden.sample).suffix}" for i, (title, hidden) in enumerate(HOSTILE.items())}
    for title, path in files.items():
        HOSTILE[title].write(path)
    loader = Path(__file__).with_name("load_each.py")
    harmless = [SAMPLES / "digits.pt2", SAMPLES / "digits.pt"]
    ran = subprocess.run(
        [sys.executable, loader, *files.values(), *harmless], capture_output=True, text=True, check=True, timeout=120
    )
    endings = json.loads(ran.stdout.splitlines()[-1])
    assert [endings[str(path)] for path in harmless] == ["", ""], "the files they were made from must load"
    return {title: (endings[str(path)], path.with_suffix(".ran").exists()) for title, path in files.items()}


@pytest.mark.parametrize("title", HOSTILE)
def test_nothing_in_a_model_file_runs_code_without_trust(outcomes, title):
    error, code_ran = outcomes[title]
    assert not code_ran, f"{title} ran its code"
    assert error in ("UsageError", "UnknownSource"), "it must be refused before the framework opens it"
