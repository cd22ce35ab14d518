"""One source, loaded and run once, against which the tests of this room prove artifacts that they broke on purpose."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from convert import convert
from convert.formats import recognise
from convert.sources import identify
from convert.spec import Artifact, LoadOptions, Signature, sha256_of
from convert.worker import Workers, limits_of
from validators.prove import Baseline, Proof, first_cases, load_source, prove, run_source
from validators.report import Report
from validators.structure import BY_NAME
from validators.verdict import Status


@dataclass
class Bench:
    """The gate every artifact of a run passes: the real engines, on the real source's answers."""

    workers: Workers
    baseline: Baseline
    _count: Iterator[int] = field(default_factory=itertools.count)

    def prove(self, path: Path, match: str = BY_NAME) -> Proof:
        """Prove the artifact in `path` as `validate` does, without timing it."""
        form = recognise(path).name
        artifact = Artifact(str(path), form, "fp32", Signature((), ()), sha256_of(path), path.stat().st_size)
        return prove(self.workers, self.baseline, artifact, f"{form}-{next(self._count)}", match=match)


@pytest.fixture(scope="session")
def bench(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """`two_by_two.pt`: two inputs of equal shape that can be swapped, two outputs that can be reordered."""
    source, options = identify(samples / "two_by_two.pt"), LoadOptions()
    with Workers(tmp_path_factory.mktemp("bench"), limits_of(300, 0)) as workers:
        facts, _ = load_source(workers, source, options)
        cases = first_cases(workers, facts.signature, seed=0, user=None)
        yield Bench(workers, run_source(workers, source, options, facts.signature, cases))


@pytest.fixture(scope="session")
def converted(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The same source, converted to every format."""
    out = tmp_path_factory.mktemp("converted")
    return convert(samples / "two_by_two.pt", to="onnx,tflite,torchscript", out=out, timeout_seconds=300)


@pytest.fixture(scope="session")
def artifact(converted: Report) -> Callable[[str], Path]:
    """The proven artifact of a format, to be copied before it is broken."""

    def find(form: str) -> Path:
        (target,) = [target for target in converted.targets if target.target == form]
        assert target.status is Status.PASS, f"the sample itself does not convert: {target.reason.splitlines()[0]}"
        return Path(target.artifact.path)

    return find
