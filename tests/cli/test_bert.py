"""A Hugging Face folder through the command line: the tokenizer's inputs by name, its dimensions free, and proven."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize("form", [pytest.param("onnx", marks=pytest.mark.slow), "tflite"])
def test_a_bert_classifier_keeps_its_inputs_by_name_with_batch_and_sequence_free(command, samples, form):
    ran = command(samples / "bert_digits", "--to", form, "--json")
    assert ran.returncode == 0, ran.stderr
    (target,) = json.loads(ran.stdout)["targets"]
    assert target["status"] == "PASS"
    signature = target["artifact"]["signature"]
    assert [spec["name"] for spec in signature["inputs"]] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [spec["shape"] for spec in signature["inputs"]] == [["batch", "sequence"]] * 3
    assert [(spec["name"], spec["shape"]) for spec in signature["outputs"]] == [("logits", ["batch", 10])]
