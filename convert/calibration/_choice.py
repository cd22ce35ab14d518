"""Which rows of calibration data are used, and which are set aside to judge by."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: One row of so many is set aside where the user gave none to judge by.
HELD_SHARE = 5

#: Rows set aside at most: with 64 rows and no changed answer, at most 5 % of answers change at 95 % confidence.
HELD_MOST = 64


@dataclass(frozen=True, slots=True)
class Choice:
    """The numbers of the rows to use and of those to hold out, each ascending, out of `total`."""

    total: int
    available: int  # rows left for calibrating after a share was set aside
    used: tuple[int, ...]
    held: tuple[int, ...]

    def notes(self) -> list[str]:
        """Say what was chosen, where it was not simply everything."""
        from convert.calibration import ADVISED, MOST

        said = []
        if self.held:
            share = self.total - self.available
            rest = f" ({len(self.held)} of these are judged on)" if len(self.held) < share else ""
            said.append(
                f"no inputs were given, so one of every {HELD_SHARE} calibration rows was set aside to judge by, "
                f"{share} in all{rest}; none of them was calibrated with"
            )
        if len(self.used) < self.available:
            said.append(f"{len(self.used)} of {self.available} calibration rows were used, spread evenly")
        if len(self.used) < ADVISED:
            said.append(f"only {len(self.used)} calibration samples; {ADVISED} to {MOST} give steadier ranges")
        return said


def choose(total: int, limit: int, seed: int, *, hold_out: bool) -> Choice:
    """Choose at most `limit` rows to calibrate with and, of every five rows, one to hold out.

    Which one of five, and which one of each stretch where there are too many, is drawn with the seed: a fixed step
    would fall in with data that repeats, as classes in turn do.
    """
    import numpy as np

    rng = np.random.default_rng([seed, zlib.crc32(b"calibration")])
    rows = np.arange(total)
    aside = rows[:0]
    if hold_out:
        groups = total // HELD_SHARE
        aside = np.arange(groups) * HELD_SHARE + rng.integers(0, HELD_SHARE, groups)
    rest = np.delete(rows, aside)
    held = _spread(aside, HELD_MOST, rng)
    return Choice(total, len(rest), tuple(_spread(rest, limit, rng).tolist()), tuple(held.tolist()))


def _spread(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Take one of each of `most` equal stretches of `rows`; all where there are no more."""
    import numpy as np

    if len(rows) <= most:
        return rows
    edges = np.arange(most + 1) * len(rows) // most
    return rows[rng.integers(edges[:-1], edges[1:])]
