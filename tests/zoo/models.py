"""The zoo: models edgeproof was not tuned for, each saved as a user would save it; no weight is downloaded.

`python models.py NAME FOLDER` writes one and prints, as JSON, the arguments `convert.convert` takes for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the zoo: which callable builds it, and how it is saved.

    `inputs` are specs as `--input` takes them; torch models are saved as `saved` says: `exported` (.pt2), `weights`
    (with --architecture) or `scripted` (TorchScript with a signature file).
    """

    name: str
    saved: str  # keras, h5, exported, weights or scripted
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def builder(self) -> str:
        """Name of the callable that builds it, in keras_models or torch_models."""
        return self.name.partition("/")[2]


def keras_entry(builder: str, *inputs: str, saved: str = "keras") -> Entry:
    return Entry(f"keras/{builder}", saved, inputs)


def torch_entry(builder: str, saved: str, *inputs: str, outputs: tuple[str, ...] = ()) -> Entry:
    return Entry(f"torch/{builder}", saved, inputs, outputs)


ENTRIES = (
    keras_entry("hand_named"),
    keras_entry("hand_dictionary"),
    keras_entry("hand_argmax"),
    keras_entry("hand_lstm"),
    keras_entry("hand_gru_free_length"),
    keras_entry("hand_bidirectional"),
    keras_entry("hand_bigru", saved="h5"),
    keras_entry("hand_conv1d"),
    keras_entry("hand_conv3d"),
    keras_entry("hand_attention", "ids:int32[batch,steps]=0..59"),
    keras_entry("hand_unet", "image:float32[batch,height,width,3]"),
    keras_entry("hand_preprocessing"),
    keras_entry("app_mobilenetv2"),
    keras_entry("app_mobilenetv3small"),
    keras_entry("app_efficientnetb0"),
    torch_entry("hand_named", "exported", "zeta:float32[batch,12]", "alpha:float32[batch,5]"),
    torch_entry("hand_nested", "exported", "x:float32[batch,12]"),
    torch_entry("hand_topk", "exported", "x:float32[batch,20]"),
    torch_entry("hand_masked", "exported", "steps:float32[batch,length,6]", "keep:bool[batch,length]"),
    torch_entry("hand_block", "exported", "tokens:float32[batch,length,24]"),
    torch_entry("hand_bigru", "weights", "steps:float32[batch,10,6]"),
    torch_entry("hand_wave", "scripted", "wave:float32[batch,1,512]", outputs=("scores",)),
    torch_entry("hand_decoder", "exported", "noise:float32[batch,10]"),
    torch_entry("hand_warp", "exported", "image:float32[batch,3,32,32]"),
    torch_entry("hand_segmenter", "weights", "image:float32[batch,3,height,width]"),
    torch_entry("hand_super_resolution", "weights", "image:float32[batch,3,24,24]"),
    torch_entry("hand_video", "exported", "clip:float32[batch,1,8,16,16]"),
    torch_entry(
        "hand_recommender", "weights",
        "user:int64[batch]=0..49", "items:int64[batch,5]=0..29", "context:float32[batch,4]",
    ),
    torch_entry("hand_branching", "scripted", "x:float32[batch,8]", outputs=("y",)),
    torch_entry("hand_ops", "weights", "x:float32[batch,6]", "ids:int64[batch,3]=0..5"),
    torch_entry("timm_resnet18", "exported", "x:float32[batch,3,64,64]"),
    torch_entry("timm_mobilenetv3", "exported", "x:float32[batch,3,64,64]"),
    torch_entry("timm_efficientnet_lite0", "weights", "x:float32[batch,3,64,64]"),
    torch_entry("timm_convnext_atto", "exported", "x:float32[batch,3,64,64]"),
    torch_entry("timm_vit_tiny", "exported", "x:float32[batch,3,64,64]"),
    torch_entry("timm_regnet", "exported", "x:float32[batch,3,64,64]"),
    torch_entry(
        "hf_bert", "weights",
        "input_ids:int64[batch,16]=0..119", "attention_mask:int64[batch,16]=0..1",
        "token_type_ids:int64[batch,16]=0..1",
    ),
    torch_entry(
        "hf_distilbert", "weights",
        "input_ids:int64[batch,length]=0..119", "attention_mask:int64[batch,length]=0..1",
    ),
    torch_entry("hf_vit", "exported", "pixel_values:float32[batch,3,32,32]"),
    torch_entry("hf_gpt2", "weights", "input_ids:int64[batch,16]=0..119"),
)  # fmt: skip

BY_NAME = {entry.name: entry for entry in ENTRIES}


def save(entry: Entry, folder: Path) -> dict[str, object]:
    """Build one model and write its file; give the arguments for `convert.convert`."""
    savers: dict[str, Callable[[Entry, Path], dict[str, object]]] = {
        "keras": save_keras,
        "h5": save_keras,
        "exported": save_exported,
        "weights": save_weights,
        "scripted": save_scripted,
    }
    folder.mkdir(parents=True, exist_ok=True)
    return savers[entry.saved](entry, folder)


def save_keras(entry: Entry, folder: Path) -> dict[str, object]:
    import keras_models

    path = folder / f"{entry.builder}.{entry.saved}"
    getattr(keras_models, entry.builder)().save(path)
    return {"model": str(path), "input": list(entry.inputs)}


def save_exported(entry: Entry, folder: Path) -> dict[str, object]:
    import torch
    import torch_models

    from convert.sources._measure import example, trial_sizes
    from convert.spec import Signature, TensorSpec, signature_file

    module = getattr(torch_models, entry.builder)()
    specs = tuple(TensorSpec.parse(text) for text in entry.inputs)
    sizes = trial_sizes(Signature(specs, ()))
    dims = {name: torch.export.Dim(name) for name in sizes}
    program = torch.export.export(
        module,
        (),
        {spec.name: torch.from_numpy(example(spec, sizes)) for spec in specs},
        dynamic_shapes={
            spec.name: {axis: dims[dim] for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
            for spec in specs
        },
    )
    path = folder / f"{entry.builder}.pt2"
    torch.export.save(program, path, extra_files=signature_file(*entry.inputs, outputs=entry.outputs))
    return {"model": str(path)}


def save_weights(entry: Entry, folder: Path) -> dict[str, object]:
    import torch
    import torch_models

    path = folder / f"{entry.builder}.pt"
    torch.save(getattr(torch_models, entry.builder)().state_dict(), path)
    architecture = f"{HERE / 'torch_models.py'}:{entry.builder}"
    return {"model": str(path), "architecture": architecture, "input": list(entry.inputs)}


def save_scripted(entry: Entry, folder: Path) -> dict[str, object]:
    import torch
    import torch_models

    from convert.spec import signature_file

    path = folder / f"{entry.builder}.pt"
    scripted = torch.jit.script(getattr(torch_models, entry.builder)())
    torch.jit.save(scripted, path, _extra_files=signature_file(*entry.inputs, outputs=entry.outputs))
    return {"model": str(path)}


if __name__ == "__main__":
    print(json.dumps(save(BY_NAME[sys.argv[1]], Path(sys.argv[2]))))
