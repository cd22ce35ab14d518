"""Generated calibration data, which must be asked for: it shows no real ranges, so it makes nothing for release."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convert.calibration import READERS, Preparation, Reader, Row, Rows
from validators.inputs import base_sizes
from validators.kinds import NATURAL, draw

#: Samples that are generated: enough of each of the five kinds for their extremes to settle.
COUNT = 128


def recognise(origin: str) -> bool:
    """Whether generated data was asked for."""
    return origin == "random"


def read(job: Preparation) -> Rows:
    """Generate inputs of the kinds that real ones resemble, and none that a model is judged on."""
    sizes = base_sizes(job.signature)

    def rows(wanted: Sequence[int]) -> Iterator[Row]:
        for index in wanted:
            name = f"calibration-{index}"
            case = draw(name, NATURAL[index % len(NATURAL)], job.signature, sizes, job.seed)
            yield f"generated sample {index}", dict(case.arrays)

    note = "calibrated with generated inputs, which show no real ranges: not for release"
    return Rows(COUNT, rows, (note,), real=False)


READERS.register(Reader("random", "generated data", recognise, read))
