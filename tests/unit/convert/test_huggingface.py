"""Hugging Face folders: loaded with all of their weights or refused by their names, offline, without code of theirs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[3] / "samples" / "bert_digits"

#: Copies the sample once for every case, runs the case's statements in the copy, and loads it.
LOAD_EACH = """
import json, os, pathlib, shutil, sys
import torch
from safetensors.torch import load_file, save_file
from convert.errors import EdgeproofError
from convert.sources import identify, load
from convert.spec import LoadOptions, specs_from

def configure(**changes):
    config = json.loads(pathlib.Path("config.json").read_text()) | changes
    pathlib.Path("config.json").write_text(json.dumps(config))

def change(**changes):
    weights = load_file("model.safetensors") | changes
    kept = {name: tensor for name, tensor in weights.items() if tensor is not None}
    save_file(kept, "model.safetensors", metadata={"format": "pt"})

def without(*begins):
    change(**{name: None for name in load_file("model.safetensors") if name.startswith(begins)})

def shard(second="part-2.safetensors", keep=True):
    weights = load_file("model.safetensors")
    os.remove("model.safetensors")
    names = sorted(weights)
    parts = {"part-1.safetensors": names[:9], second: names[9:]}
    for part, inside in parts.items():
        if keep or part != second:
            save_file({name: weights[name] for name in inside}, part, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: part for part, inside in parts.items() for name in inside}}
    pathlib.Path("model.safetensors.index.json").write_text(json.dumps(index))

def pickle(**more):
    torch.save(load_file("model.safetensors") | more, "pytorch_model.bin")
    os.remove("model.safetensors")

class Code:
    def __reduce__(self):
        return os.mkdir, ("ran",)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "transformers":
            raise ModuleNotFoundError("No module named 'transformers'", name="transformers")

home = os.getcwd()
endings = {}
for name, statements, inputs in json.loads(sys.argv[2]):
    folder = pathlib.Path(home, name)
    shutil.copytree(sys.argv[1], folder)
    os.chdir(folder)
    try:
        exec(statements)
        file = identify(folder)
        facts = load(file, LoadOptions(inputs=specs_from(inputs))).facts
        specs = (*facts.signature.inputs, *facts.signature.outputs)
        endings[name] = [file.detail, *map(str, specs), *facts.notes]
    except EdgeproofError as error:
        endings[name] = [type(error).__name__, error.message, error.fix]
    except ModuleNotFoundError as error:
        endings[name] = [type(error).__name__, str(error)]
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Absent)]
    endings[name].append("ran its code" if pathlib.Path("ran").exists() else "")
print(json.dumps(endings))
"""

NAMED = (
    "Hugging Face folder of a BertForSequenceClassification",
    "input_ids:int64[batch,sequence]=0..53",
    "attention_mask:int64[batch,sequence]=0..1",
    "token_type_ids:int64[batch,sequence]=0..1",
    "logits:float32[batch,10]",
)

#: Statements that change a copy of the sample, the inputs stated, and what is said.
CASES = {
    "as it is": ("", [], NAMED),
    "sharded": ("shard()", [], NAMED),
    "pickled tensors": ("pickle()", [], NAMED),
    "narrowed": (
        "",
        ["input_ids:int64[1,16]=0..9"],
        (NAMED[0], "input_ids:int64[1,16]=0..9", "token_type_ids:int64[1,16]=0..1", "logits:float32[1,10]"),
    ),
    "an optional input": (
        "",
        ["position_ids:int64[1,sequence]=0..15"],
        (*NAMED, "position_ids:int64[1,sequence]=0..15"),
    ),
    "inputs of the tokenizer": (
        "pathlib.Path('tokenizer_config.json').write_text(json.dumps({'model_input_names': ['input_ids']}))",
        [],
        ("Hugging Face folder", "input_ids:int64[batch,sequence]=0..53"),
    ),
    "a base model": (
        "configure(architectures=None); change(**{'classifier.weight': None, 'classifier.bias': None})",
        [],
        ("Hugging Face folder of a bert", "last_hidden_state:float32[batch,sequence,32]", "pooler_output:float32"),
    ),
    "another head beside": (
        "change(**{'cls.seq_relationship.bias': torch.ones(2)})",
        [],
        (
            *NAMED,
            "weights of other heads were left out: cls.seq_relationship.bias",
        ),
    ),
    "no weights": ("os.remove('model.safetensors')", [], ("UnknownSource", "no weights", "model.safetensors")),
    "a weight missing": (
        "change(**{'classifier.weight': None})",
        [],
        ("LoadError", "BertForSequenceClassification", "missing in the file: classifier.weight"),
    ),
    "another head": (
        "configure(architectures=['BertForMaskedLM'])",
        [],
        ("LoadError", "missing in the file: cls.predictions", "unexpected in the file: bert.pooler"),
    ),
    "fewer layers": (
        "configure(num_hidden_layers=1)",
        [],
        ("LoadError", "unexpected in the file: bert.encoder.layer.1."),
    ),
    "other sizes": (
        "configure(vocab_size=80)",
        [],
        ("LoadError", "bert.embeddings.word_embeddings.weight", "[54, 32]"),
    ),
    "another family": (
        "configure(architectures=['ViTForImageClassification'])",
        [],
        ("LoadError", "model type 'bert'", "ViTForImageClassification", "contradict"),
    ),
    "no such class": ("configure(architectures=['BertForNothing'])", [], ("LoadError", "no model 'BertForNothing'")),
    "no such family": ("configure(model_type='nothing')", [], ("LoadError", "config.json")),
    "code of its own": (
        "configure(auto_map={'AutoModel': 'modeling.Net'})",
        [],
        ("UsageError", "code of its own: modeling.Net", "--trust"),
    ),
    "a pickle that runs code": ("pickle(code=Code())", [], ("UsageError", "posix.mkdir", "--trust")),
    "a shard missing": ("shard(keep=False)", [], ("UnknownSource", "1 of the 2 files", "part-2.safetensors")),
    "a shard outside": ("shard('../part-2.safetensors')", [], ("UnknownSource", "outside its folder")),
    "truncated weights": (
        "path = pathlib.Path('model.safetensors'); path.write_bytes(path.read_bytes()[:5000])",
        [],
        ("LoadError", "BertForSequenceClassification"),
    ),
    "a damaged configuration": (
        "pathlib.Path('config.json').write_text('{\"model_type\": ')",
        [],
        ("UnknownSource", "config.json cannot be understood"),
    ),
    "an input it does not have": ("", ["image:float32[1,3]"], ("UsageError", "no input named 'image'")),
    "no transformers": ("sys.meta_path.insert(0, Absent())", [], ("ModuleNotFoundError", "transformers")),
}


@pytest.fixture(scope="module")
def endings(tmp_path_factory) -> dict[str, list[str]]:
    """Load every folder, all in one process: its inputs, outputs and notes, or the error, its message and its fix."""
    cases = [(name, statements, inputs) for name, (statements, inputs, _) in reversed(CASES.items())]
    line = [sys.executable, "-c", LOAD_EACH, str(SAMPLE), json.dumps(cases)]
    folder = tmp_path_factory.mktemp("huggingface")
    ran = subprocess.run(line, capture_output=True, text=True, check=False, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("name", CASES)
def test_a_folder_is_loaded_with_all_its_weights_or_refused_by_name(endings, name):
    said = "\n".join(endings[name])
    assert [words for words in CASES[name][2] if words not in said] == [], said
    assert "ran its code" not in said
    assert endings[name][0].startswith("Hugging Face") == (not CASES[name][2][0].endswith(("Error", "Source")))


def test_the_tokenizers_own_list_of_inputs_counts(endings):
    assert len(endings["inputs of the tokenizer"]) == len(endings["as it is"]) - 2
