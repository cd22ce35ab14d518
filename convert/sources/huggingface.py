"""Hugging Face folders: a configuration, weights, and the class of the transformers library that both belong to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from convert.errors import LoadError, MissingInputs, UnknownSource, UsageError
from convert.sources import SOURCES, TORCH, LoadedModel, Probe, Source
from convert.sources._huggingface_inputs import inputs_of
from convert.sources._measure import agreed
from convert.sources._probe import foreign_globals, probe
from convert.sources._torch import loaded, shown_as
from convert.sources.torch_weights import pickled
from convert.spec import LoadOptions, Promise, SourceFile, TensorSpec
from convert.worker import summary

CONFIG = "config.json"

#: Files that hold the weights, in the order the library looks for them; the second of each pair lists its parts.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

#: Outputs that are a decoder's memory for its next step, not an answer.
CACHES = ("past_key_values", "mems", "cache_params", "rnn_state", "state")

CONFIG_LIMIT = 1 << 24  # bytes of a JSON file; real ones have kilobytes
KEYS_SHOWN = 5


class _Config(msgspec.Struct):
    """What of a configuration decides how it is loaded."""

    model_type: str = ""
    architectures: list[str] | None = None
    auto_map: dict[str, Any] | None = None


class _Index(msgspec.Struct):
    """Which file holds which weight."""

    weight_map: dict[str, str]


def recognise(seen: Probe) -> str | None:
    """Know the folder by its configuration; raises UnknownSource where its weights are not there."""
    if not seen.is_folder or CONFIG not in seen.members:
        return None
    config = read_json(seen.path / CONFIG, _Config)
    if not config.model_type and not config.architectures:
        return None
    name = (config.architectures or [config.model_type])[0]
    found = [file for file in WEIGHTS if file in seen.members]
    if not found:
        raise UnknownSource(
            f"{seen.path} has the {CONFIG} of a {name} and no weights",
            fix=f"add its {WEIGHTS[0]}, or download the folder again with its weights",
        )
    parts = parts_of(seen.path, found[0])
    missing = [part for part in parts if part not in seen.members]
    if missing:
        raise UnknownSource(
            f"{seen.path} has {len(parts) - len(missing)} of the {len(parts)} files of its weights; "
            f"missing: {', '.join(missing[:KEYS_SHOWN])}",
            fix="download the folder again",
        )
    return f"Hugging Face folder of a {name}"


def read_json(path: Path, kind: type[Any]) -> Any:
    """Read a JSON file as a type; raises UnknownSource where it is damaged or something else."""
    try:
        with path.open("rb") as stream:
            return msgspec.json.decode(stream.read(CONFIG_LIMIT), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnknownSource(f"{path} cannot be understood: {error}", fix="download or save the folder again") from error


def parts_of(folder: Path, name: str) -> tuple[str, ...]:
    """Name the files that hold the weights; raises UnknownSource for one outside the folder."""
    if not name.endswith(".json"):
        return (name,)
    parts = tuple(sorted(set(read_json(folder / name, _Index).weight_map.values())))
    outside = [part for part in parts if len(PurePosixPath(part).parts) != 1 or "\\" in part or part == ".."]
    if outside:
        raise UnknownSource(
            f"{folder / name} names weights outside its folder: {outside[0]!r}",
            fix="do not open this folder; ask whoever made it",
        )
    return parts


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Build the class that the configuration names, with all of its weights, offline."""
    folder = Path(file.path)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    refuse_code(folder, trust=options.trust)
    cls, config = class_of(folder, trust=options.trust)
    model, notes = with_weights(cls, folder, trust=options.trust)
    try:
        own = inputs_of(model, config, folder)
    except MissingInputs:
        if not options.inputs:
            raise
        own = ()
    inputs = with_stated(own, model, options.inputs) if options.inputs else own
    return loaded(named(model, [spec.name for spec in inputs]), options, Promise(inputs), notes)


def refuse_code(folder: Path, *, trust: bool) -> None:
    """Raise UsageError for a folder whose loading would run code that it brings, unless the user trusts it."""
    if trust:
        return
    config = read_json(folder / CONFIG, _Config)
    if config.auto_map:
        raise UsageError(
            f"{folder} brings its model as code of its own: {', '.join(map(str, config.auto_map.values()))}",
            fix="save it with a class of the transformers library, or add --trust when you know who made it",
        )
    if any((folder / name).exists() for name in WEIGHTS[:2]):
        return
    name = next(name for name in WEIGHTS if (folder / name).exists())
    for part in parts_of(folder, name):
        found = foreign_globals(pickled(probe(folder / part)) or b"N.")
        if found:
            raise UsageError(
                f"{folder / part} is a pickle that runs code when read: it imports {', '.join(found[:KEYS_SHOWN])}",
                fix=f"save the weights as {WEIGHTS[0]}, or add --trust when you know who made it",
            )


def class_of(folder: Path, *, trust: bool) -> tuple[type[Any], Any]:
    """Find the class that the configuration names, by itself or through the library's table of models."""
    import transformers
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    stated = read_json(folder / CONFIG, _Config)
    version = transformers.__version__
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust)
    except Exception as error:
        raise LoadError(
            f"transformers {version} cannot read {folder / CONFIG}: {summary(error)}",
            fix="use a version of transformers that knows this model, or save it again with this one",
        ) from error
    if not stated.architectures:
        return transformers.AutoModel, config
    name = stated.architectures[0]
    for reference in (stated.auto_map or {}).values():
        if trust and isinstance(reference, str) and reference.endswith(f".{name}"):
            return get_class_from_dynamic_module(reference, folder, local_files_only=True), config
    cls = getattr(transformers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        raise LoadError(
            f"transformers {version} has no model {name!r}, which {folder / CONFIG} names",
            fix="correct `architectures`, or use a version of transformers that has it",
        )
    own = getattr(cls, "config_class", None)
    if isinstance(own, type) and not isinstance(config, own):
        raise LoadError(
            f"{folder / CONFIG} is of the model type {stated.model_type!r} and names the architecture {name}, "
            f"which takes a {own.__name__}",
            fix="correct `architectures` or `model_type`; they contradict each other",
        )
    return cls, config


def with_weights(cls: type[Any], folder: Path, *, trust: bool) -> tuple[Any, tuple[str, ...]]:
    """Load a class with its weights in float32.

    transformers fills weights that are missing with random numbers, and drops those it has no place for; here either
    raises LoadError with their names. Heads beside the one asked for, which pretraining leaves behind, are only noted.
    """
    import torch

    more = {"trust_remote_code": trust} if cls.__name__.startswith("Auto") else {}
    try:
        model, found = cls.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, with their names
            dtype=torch.float32,
            weights_only=not trust,
            **more,
        )
    except Exception as error:
        raise LoadError(
            f"transformers cannot load {cls.__name__} from {folder}: {type(error).__name__}: {summary(error)}",
            fix="the folder must hold the model as save_pretrained writes it, unquantized",
        ) from error
    missing, unexpected = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    base = f"{model.base_model_prefix}."
    others = model.base_model is not model and not any(key.startswith(base) for key in unexpected)
    problems = [_listed("missing in the file", missing)] if missing else []
    if unexpected and (missing or not others):
        problems.append(_listed("unexpected in the file", unexpected))
    problems += [f"  wrong shape: {_mismatch(entry)}" for entry in list(found["mismatched_keys"])[:KEYS_SHOWN]]
    if problems:
        raise LoadError(
            f"the weights in {folder} do not fit {type(model).__name__}, which its {CONFIG} names:\n"
            + "\n".join(problems),
            fix="correct `architectures` and the sizes in the configuration, or save the model with this head trained",
        )
    notes = [f"weights of other heads were left out:{_listed('', unexpected)[3:]}"] if unexpected else []
    return model, tuple(notes)


def _listed(title: str, keys: list[str]) -> str:
    more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
    return f"  {title}: {', '.join(keys[:KEYS_SHOWN])}{more}"


def _mismatch(entry: Any) -> str:
    name, *shapes = entry if isinstance(entry, (tuple, list)) else (entry,)
    return f"{name} ({' in the file, '.join(str(list(shape)) for shape in shapes)} in the model)" if shapes else name


def with_stated(own: tuple[TensorSpec, ...], model: Any, stated: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Narrow the inputs by those the user stated, who may also add optional arguments of the model's forward."""
    import inspect

    taken = inspect.signature(model.forward).parameters
    known = {spec.name for spec in own}
    added = tuple(spec for spec in stated if spec.name not in known and spec.name in taken)
    rest = tuple(spec for spec in stated if spec not in added)
    if rest and not own:
        raise UsageError(
            f"the model's forward has no argument named {rest[0].name!r}", fix=f"its arguments are: {', '.join(taken)}"
        )
    return (*agreed(own, rest), *added)


def named(model: Any, names: Iterable[str]) -> Any:
    """Wrap a model so that it takes the named inputs and returns its tensors by name, without a cache.

    The wrapper's forward takes them by position or name.
    """
    import inspect

    import torch

    inputs = tuple(names)
    taken = inspect.signature(model.forward).parameters
    switches = {"return_dict": True} | ({"use_cache": False} if "use_cache" in taken else {})

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: torch.Tensor, **by_name: torch.Tensor) -> dict[str, Any]:
            given = {**dict(zip(inputs, tensors, strict=False)), **by_name}
            found: Mapping[str, Any] = self.model(**given, **switches)
            return {name: value for name, value in found.items() if name not in CACHES}

    shown_as(Named, inputs)
    return Named().eval()


SOURCES.register(Source("huggingface", "Hugging Face folder (config.json and weights)", TORCH, recognise, load))
