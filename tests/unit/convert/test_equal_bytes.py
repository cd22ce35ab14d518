"""Equal models give equal bytes, although tf2onnx iterates over sets and goes on counting between conversions."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from convert.routes import ROUTES, Task, perform
from convert.sources import Loading, describe, identify
from convert.spec import LoadOptions
from convert.worker import Environment, Workers, limits_of

SAMPLES = Path(__file__).parents[3] / "samples"


def test_tf2onnx_gives_equal_bytes_again_in_its_process_and_in_another(tmp_path):
    route, source = ROUTES["tf2onnx"], identify(SAMPLES / "two_by_two.keras")

    def convert_twice(environment: Environment) -> list[bytes]:
        facts = workers.run(f"load-{environment.name}", describe, Loading(source, LoadOptions()), environment).value
        made = []
        for attempt in ("first", "again"):
            out = tmp_path / environment.name / attempt / "net.onnx"
            task = Task(route.name, route.convert.__module__, source, LoadOptions(), facts.signature, str(out))
            workers.run(f"{attempt}-{environment.name}", perform, task, environment)
            made.append(out.read_bytes())
        return made

    environments = [dataclasses.replace(route.environment, name=f"process-{i}") for i in range(2)]
    with Workers(tmp_path / "stages", limits_of(120.0, 0)) as workers, ThreadPoolExecutor(2) as threads:
        (first, again), elsewhere = threads.map(convert_twice, environments)
    assert again == first, "in the same process"
    assert elsewhere == [first, first], "in another process"
