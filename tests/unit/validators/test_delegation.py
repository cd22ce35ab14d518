"""What a delegate took of a graph, and what it left, is counted right."""

from __future__ import annotations

from pathlib import Path

import pytest

from convert.errors import LoadError
from convert.worker import Workers, limits_of
from validators.delegation import Delegation, Examination, examine, split
from validators.runtimes.litert import LITERT


def node(name: str, inputs: list[int], outputs: list[int]) -> dict[str, object]:
    return {"op_name": name, "inputs": inputs, "outputs": outputs}


GRAPH = [
    node("CONV_2D", [0, 1], [2]),
    node("ADD", [2, 3], [4]),
    node("CUSTOM_SORT", [4], [5]),
    node("NEG", [5], [6]),
    node("NEG", [6], [7]),
    node("FULLY_CONNECTED", [7, 8], [9]),
]


def test_operators_between_a_delegates_inputs_and_outputs_are_its_own():
    delegates = [node("DELEGATE", [0, 1, 3], [4]), node("DELEGATE", [7, 8], [9])]
    found = split([*GRAPH, *delegates])
    assert found == Delegation(2, 3, (("NEG", 2), ("CUSTOM_SORT", 1)), left=(5, 6, 7))
    assert found.describe() == "XNNPACK runs 3 of 6 operators in 2 part(s); left out: NEG 2, CUSTOM_SORT"


def test_a_graph_in_one_part_has_nothing_to_say():
    assert split([*GRAPH, node("DELEGATE", [0, 1, 3, 8], [9])]).describe() == ""


def test_without_a_delegate_everything_is_left():
    kinds = (("NEG", 2), ("ADD", 1), ("CONV_2D", 1), ("CUSTOM_SORT", 1), ("FULLY_CONNECTED", 1))
    assert split(GRAPH) == Delegation(0, 0, kinds, (2, 4, 5, 6, 7, 9))


def test_a_real_file_is_loaded_and_a_damaged_one_refused(samples: Path, tmp_path: Path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes((samples / "digits.tflite").read_bytes()[:400])
    with Workers(tmp_path / "stages", limits_of(60.0, 0)) as workers:
        found = workers.run("real", examine, Examination(str(samples / "digits.tflite")), LITERT).value
        with pytest.raises(LoadError, match="LiteRT cannot load damaged"):
            workers.run("damaged", examine, Examination(str(damaged)), LITERT)
    assert found.partitions >= 1
    assert found.delegated >= 4  # convolutions and pooling
    assert found.delegated + sum(count for _, count in found.undelegated) == 10 - 1
