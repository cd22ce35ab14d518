"""Other kernels that a device may run an artifact with: each is judged as the engine that proves it, on fewer cases.

Delegates may be missing or switched off, graph optimisations too, and TorchScript's executor changes its kernels from
call to call. The verdict is the worst over all of them. A path on which the artifact does not even start is none that a
device can take: it is reported as NOT_RUN, with the reason, and does not decide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from convert.errors import EdgeproofError
from validators.inputs import CaseSet
from validators.runtimes import Outputs, Runtime, paths_of
from validators.verdict import Finding, PathParity, Status, Verdict

#: No further case is begun on a path after that much CPU time: reference kernels take a hundred times what others do.
SECONDS = 1.0


def varied(cases: CaseSet, usable: Iterable[str]) -> tuple[str, ...]:
    """Order cases so that a run that is cut short has seen one of every kind, the first case of all first."""
    kinds: dict[str, list[str]] = {}
    for name in usable:
        kinds.setdefault(name.rpartition("-")[0] or name, []).append(name)
    longest = max(map(len, kinds.values()), default=0)
    order = [names[turn] for turn in range(longest) for names in kinds.values() if turn < len(names)]
    first = cases.names[0]
    return tuple(sorted(order, key=lambda name: name != first))


def judge_paths(
    form: str, verdict: Verdict, run: Callable[[Runtime], Outputs], judge: Callable[[Outputs], Verdict]
) -> Verdict:
    """Judge an artifact that passed on every other kernel path of its format too, and give the worst of it all.

    One that failed is tried on those paths that may acquit it, whose words then join the reason.
    """
    asked = [path for path in paths_of(form) if bool(path.acquits) == (verdict.status is Status.FAIL)]
    if verdict.status is Status.NOT_RUN or not asked:
        return verdict
    paths = tuple(_walk(asked, run, judge))
    if verdict.status is Status.FAIL:
        excused = [path.acquits for path, found in zip(asked, paths, strict=True) if found.status is Status.PASS]
        return dataclasses.replace(verdict, reason="; ".join((verdict.reason, *excused)), paths=paths)
    wrong = [Finding("path", Status.FAIL, f"on {p.title}: {p.reason}") for p in paths if p.status is Status.FAIL]
    worst = Verdict.of((*verdict.findings, *wrong), verdict.outputs, passed=verdict.reason)
    return dataclasses.replace(worst, paths=paths)


def _walk(
    runtimes: Iterable[Runtime], run: Callable[[Runtime], Outputs], judge: Callable[[Outputs], Verdict]
) -> Iterator[PathParity]:
    for runtime in runtimes:
        try:
            ran = run(runtime)
        except EdgeproofError as error:
            yield PathParity(runtime.name, runtime.title, Status.NOT_RUN, f"it does not run there: {error.message}")
            continue
        failed = dict(ran.failures)
        if ran.cases[0] in failed:
            yield PathParity(
                runtime.name, runtime.title, Status.NOT_RUN, f"it does not run there: {failed[ran.cases[0]]}"
            )
            continue
        found = judge(ran)
        yield PathParity(
            runtime.name, runtime.title, found.status, found.reason, len(ran.cases), found.findings, found.outputs
        )
