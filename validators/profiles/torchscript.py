"""PyTorch's own profile of a TorchScript archive: every operator that its interpreter calls."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from convert.errors import LoadError
from convert.worker import summary
from validators.profiles import LEAST_RUNS, PROFILERS, WARM_UPS, Operator, Profiler, Taken, typical
from validators.runtimes import Arrays, Subject
from validators.runtimes.torchscript import TORCHSCRIPT, open_torchscript

ENGINE = "TorchScript, by torch.profiler"
NO_LAYERS = "a TorchScript archive names no layers; operators are in the order that they run in"

MARK = "edgeproof"  # what each run is marked by in the profile


def take(subject: Subject, given: Arrays) -> Taken:
    """Run an archive under the profiler and add up, for each operator that TorchScript calls, all that it calls."""
    from torch.profiler import ProfilerActivity, profile, record_function

    session = open_torchscript(subject)
    try:
        took = []
        for _ in range(WARM_UPS):
            began = time.perf_counter()
            session.run(given)
            took.append(time.perf_counter() - began)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(LEAST_RUNS):
                with record_function(MARK):
                    session.run(given)
    except RuntimeError as error:
        raise LoadError(f"it does not run on PyTorch: {summary(error, 1)}") from error
    return Taken(ENGINE, LEAST_RUNS, tuple(operators_of(profiler.events())), min(took), notes=(NO_LAYERS,))


def operators_of(events: Any) -> list[Operator]:
    """Read the operators from a profile's events: those that no other operator called, by their place in a run."""
    seen: dict[tuple[int, str], list[float]] = defaultdict(list)
    place: dict[int, int] = defaultdict(int)  # of the next operator in each run
    for event in sorted(events, key=lambda event: event.time_range.start):
        if "::" not in event.name:
            continue
        parent, run = event.cpu_parent, None
        while parent is not None and "::" not in parent.name:
            run = parent if parent.name == MARK else run
            parent = parent.cpu_parent
        # Directly under the mark is what makes tensors of arrays, which is no operator of the archive.
        if parent is not None or run is None or event.cpu_parent is run:
            continue
        seen[place[run.id], event.name].append(event.cpu_time_total * 1e-6)
        place[run.id] += 1
    return [Operator(key[1], "", seconds) for key, seconds in typical(seen).items()]


PROFILERS.register(Profiler("torchscript", TORCHSCRIPT, take))
