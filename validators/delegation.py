"""How LiteRT's XNNPACK delegate splits a file: each cut and each operator left to the plain kernels costs time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from validators.runtimes import cannot_open

FORMAT = "tflite"  # of the files it is about
DELEGATE = "DELEGATE"  # what the interpreter calls a node that stands for a part of the graph


@dataclass(frozen=True, slots=True)
class Examination:
    """One TFLite file to look at; travels to a worker."""

    path: str


@dataclass(frozen=True, slots=True)
class Delegation:
    """Into how many parts of how many operators a delegate took a graph, and what it left, by kind and count."""

    partitions: int
    delegated: int
    undelegated: tuple[tuple[str, int], ...] = ()
    left: tuple[int, ...] = ()  # the first output of each that it left, as the file counts tensors

    @property
    def share(self) -> float:
        """The share of operators that the delegate took; 1 where there are none."""
        total = self.delegated + sum(count for _, count in self.undelegated)
        return self.delegated / total if total else 1.0

    def describe(self) -> str:
        """Say in a few words why the file may be slow; empty where the delegate runs all of it in one part."""
        left = sum(count for _, count in self.undelegated)
        if self.partitions == 1 and not left:
            return ""
        words = f"XNNPACK runs {self.delegated} of {self.delegated + left} operators in {self.partitions} part(s)"
        listed = ", ".join(kind if count == 1 else f"{kind} {count}" for kind, count in self.undelegated)
        return f"{words}; left out: {listed}" if left else words


def examine(task: Examination) -> Delegation:
    """Load a file as phones do and see what its main graph became; runs in LiteRT's worker.

    Raises LoadError where LiteRT refuses the file.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=task.path, num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise cannot_open("LiteRT", Path(task.path), error) from error
    # NOTE: Why a private name: nothing public lists the nodes.
    return split(interpreter._get_ops_details())


def names_left(path: Path) -> tuple[str, ...]:
    """Name what the operators compute that the delegate leaves out of a file of several parts, in order."""
    from convert.formats.tflite import read_model

    found = examine(Examination(str(path)))
    tensors = read_model(path).subgraphs[0].tensors
    return tuple(tensors[index].name.decode() for index in found.left if index < len(tensors))


def undelegated(path: Path) -> str:
    """Say what of a file the delegate does not run in one part; empty where it runs all of it so."""
    return examine(Examination(str(path))).describe()


def split(nodes: list[dict[str, Any]]) -> Delegation:
    """Tell the operators of a graph that the delegate's nodes stand for from those it left.

    The interpreter lists all of them, so those between a delegate node's inputs and outputs are found by walking back.
    """
    operators = [node for node in nodes if node["op_name"] != DELEGATE]
    parts = [node for node in nodes if node["op_name"] == DELEGATE]
    made = {int(output): position for position, node in enumerate(operators) for output in node["outputs"]}
    taken: set[int] = set()
    for part in parts:
        ends = {int(index) for index in part["inputs"]}
        pending = [int(index) for index in part["outputs"]]
        while pending:
            tensor = pending.pop()
            position = made.get(tensor)
            if position is None or tensor in ends or position in taken:
                continue
            taken.add(position)
            pending += [int(index) for index in operators[position]["inputs"]]
    left = [node for position, node in enumerate(operators) if position not in taken]
    kinds = Counter(node["op_name"] for node in left).items()
    outputs = tuple(int(node["outputs"][0]) for node in left if len(node["outputs"]))
    return Delegation(len(parts), len(taken), tuple(sorted(kinds, key=lambda item: (-item[1], item[0]))), outputs)
