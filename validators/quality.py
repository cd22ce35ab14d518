"""How good a reduced artifact is beside its source, on inputs that resemble real ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.spec import QualityGate
from convert.worker import Workers
from validators import tolerance
from validators.inputs import CaseSet
from validators.parity import Reference
from validators.runtimes import Outputs
from validators.structure import Binding
from validators.verdict import Status

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Quality:
    """What a reduced artifact kept of its source; `sqnr_db` is the worst output's, None where nothing was lost."""

    status: Status
    reason: str
    data: str
    cases: int
    sqnr_db: float | None = None
    agreement: float | None = None


def assess(
    workers: Workers,  # noqa: ARG001  a metric of the user's runs in one
    reference: Reference,
    artifact: Outputs,
    cases: CaseSet,
    binding: Binding,
    precision: str,
    gate: QualityGate,
    label: str,  # noqa: ARG001
) -> Quality:
    """Measure the signal to quantization noise of every output and hold the worst against the gate."""
    import numpy as np

    usable = [case for case in cases.fitting(dict(binding.fixed)) if case in cases.evaluation]
    least = tolerance.MIN_SQNR_DB[precision] if gate.min_sqnr_db is None else gate.min_sqnr_db
    exact = reference.oracle or reference.native
    worst = math.inf
    with np.load(exact.path) as expected, np.load(artifact.path) as actual:
        for name, found in binding.outputs:
            pairs = [(expected[f"{case}/{name}"], actual[f"{case}/{found}"]) for case in usable]
            worst = min(worst, _sqnr_db(pairs))
    status = Status.PASS if worst >= least else Status.FAIL
    words = f"quantization loss: {worst:.1f} dB on {len(usable)} of {cases.data}, at least {least:g} dB wanted"
    return Quality(status, words, cases.data, len(usable), worst if math.isfinite(worst) else None)


def _sqnr_db(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    import numpy as np

    signal = sum(float(np.square(want.astype(np.float64)).sum()) for want, _ in pairs)
    noise = sum(float(np.square(have.astype(np.float64) - want).sum()) for want, have in pairs)
    return 10 * math.log10(signal / noise) if noise and signal else math.inf
