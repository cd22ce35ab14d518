"""What an artifact costs on any machine: bytes, multiply-accumulates, operators; counted, not timed.

One file per format registers a `Coster`, which runs in a worker of its engine. Free dimensions have the sizes that the
artifact is timed at. What cannot be counted is null, with its reason; it is never 0.

A multiply-accumulate (MAC) is one product added to a sum of products: of convolutions, matrix products, recurrent cells
and attention, taps that lie in a padding included; half of what `torch.utils.flop_counter` counts. Elementwise
arithmetic, reductions, pooling, normalisation and resizing have none, as in that counter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convert.registry import Registry
from convert.worker import Environment
from validators.runtimes import Feed, feed

if TYPE_CHECKING:
    import numpy as np

__all__ = ["COSTERS", "NOT_ASKED", "Coster", "Costs", "Counted", "Counting", "Macs", "Step", "count", "peak_bytes"]

#: Why instructions are null as a rule.
NOT_ASKED = "not asked for; --instructions counts them"


@dataclass(frozen=True, slots=True)
class Costs:
    """What one artifact costs, none of it timed; null where `reasons` says, by the field's name, why.

    `weight_bytes` are the constants as stored. `activation_bytes` is the peak of what is computed from the inputs,
    these included; `basis` says how it was found. `macs` is null where an operator is `unknown`; `known_macs` are then
    those of all others. `delegated_share` and `partitions` are XNNPACK's, of TFLite files. `instructions` are those
    executed per inference, where they were asked for: the median of `instruction_runs`, on the kernels that an engine
    chooses for a processor with `instruction_set`. `sizes` are those of the source's free dimensions.
    """

    file_bytes: int
    weight_bytes: int | None = None
    activation_bytes: int | None = None
    basis: str = ""
    macs: int | None = None
    known_macs: int = 0
    operators: dict[str, int] = field(default_factory=dict)
    unknown: tuple[tuple[str, int], ...] = ()
    delegated_share: float | None = None  # of the operators, 0 to 1
    partitions: int | None = None
    instructions: int | None = None
    instruction_runs: tuple[int, ...] = ()
    instruction_set: str = ""
    sizes: tuple[tuple[str, int], ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counting:
    """One artifact to count the costs of; travels to a worker. Without a `case` only what needs no run is counted."""

    format: str
    path: str
    inputs: str = ""  # .npz of cases
    case: str = ""
    feeds: tuple[Feed, ...] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """What a worker counted of one artifact; the fields of `Costs` of the same names."""

    weight_bytes: int | None = None
    activation_bytes: int | None = None
    basis: str = ""
    macs: int | None = None
    known_macs: int = 0
    operators: dict[str, int] = field(default_factory=dict)
    unknown: tuple[tuple[str, int], ...] = ()
    delegated_share: float | None = None
    partitions: int | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Coster:
    """How the costs of one format, whose name it has, are counted.

    `count` is given the file and the arrays of one case, None where it cannot be run. It raises LoadError where the
    file cannot even be read.
    """

    name: str
    environment: Environment
    count: Callable[[Path, Mapping[str, np.ndarray] | None], Counted]


COSTERS: Registry[Coster] = Registry("coster", "validators.costs")


def count(job: Counting) -> Counted:
    """Count the costs of an artifact, in a worker."""
    import numpy as np

    given = None
    if job.case:
        with np.load(job.inputs) as arrays:
            given = feed(arrays, job.case, job.feeds)
    return COSTERS[job.format].count(Path(job.path), given)


class Macs:
    """Adds up the MACs of operators, and keeps the names of those whose formula or shapes are not known."""

    def __init__(self) -> None:
        self._sum = 0
        self._unknown: Counter[str] = Counter()

    def add(self, operator: str, macs: int | None) -> None:
        """Add one operator's; None where they are not known."""
        if macs is None:
            self._unknown[operator] += 1
        else:
            self._sum += macs

    @property
    def known(self) -> int:
        """The sum of those that are known."""
        return self._sum

    @property
    def all(self) -> int | None:
        """The sum, None where one is not known."""
        return None if self._unknown else self._sum

    @property
    def unknown(self) -> tuple[tuple[str, int], ...]:
        """The operators whose MACs are not known, and how many of each."""
        return tuple(sorted(self._unknown.items()))

    def reason(self) -> dict[str, str]:
        """Say why the sum is not known; nothing where it is."""
        if not self._unknown:
            return {}
        named = ", ".join(kind if count == 1 else f"{kind} {count}" for kind, count in self.unknown)
        return {"macs": f"the multiply-accumulates of {named} are not known; all others make {self._sum:,}"}


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a run: the values that it takes and makes."""

    takes: tuple[Hashable, ...]
    makes: tuple[Hashable, ...]


def peak_bytes(
    steps: Sequence[Step],
    sizes: Mapping[Hashable, int],
    inputs: Iterable[Hashable] = (),
    outputs: Iterable[Hashable] = (),
) -> int:
    """Give the most bytes that are held at once where operators run in this order.

    A value is held from the step that makes it to the last that takes it, a model's inputs from the first step on and
    its outputs to the last; all a step takes and makes are held together. Values without a size are no activations.
    A planner that packs perfectly and computes nothing in place needs exactly that.
    """
    last = {value: at for at, step in enumerate(steps) for value in (*step.takes, *step.makes)}
    last |= dict.fromkeys((*inputs, *outputs), len(steps))
    held = {value: sizes[value] for value in inputs if value in sizes}
    now = peak = sum(held.values())
    for at, step in enumerate(steps):
        for value in step.makes:
            if value in sizes and value not in held:
                held[value] = sizes[value]
                now += sizes[value]
        peak = max(peak, now)
        for value in {*step.takes, *step.makes}:
            if value in held and last[value] <= at:
                now -= held.pop(value)
    return peak
