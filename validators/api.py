"""The Python API of standalone validation: an artifact that somebody else made, against its source."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from convert import folder
from convert.device import DeviceRequest, device_words
from convert.errors import UnknownName, UsageError
from convert.formats import recognise
from convert.layout import require_image
from convert.sources import identify
from convert.spec import (
    BATCH,
    FOREIGN,
    FP32,
    KEEP,
    LAYOUTS,
    Artifact,
    LoadOptions,
    QualityGate,
    Signature,
    check_run,
    command_line,
    fingerprint,
    gate_words,
    sizes_from,
    specs_from,
)
from convert.worker import Workers, limits_of
from validators.enforcement import enforce, read_enforced, require_known_outputs
from validators.examine import examine
from validators.golden import check_place
from validators.golden import write as write_golden
from validators.inputs import read_user_file, specs_of
from validators.on_device import check_timing
from validators.protocol import DEFAULT, protocol_of
from validators.prove import first_cases, load_source, prove, run_source, time_proven
from validators.quality import check_gate
from validators.quantity import bytes_from
from validators.regression import check_baseline, regress
from validators.report import Report, TargetReport, assemble, held_against
from validators.reports import RENDERINGS
from validators.runtimes import runtime_for
from validators.self_test import self_test as run_self_test
from validators.structure import BY_NAME, MATCHES, Inspection, inspect
from validators.sweep import Subjected, largest_batch
from validators.sweep import sweep as run_sweep
from validators.swept import Swept, require_free, sweeps_from
from validators.verdict import Status
from validators.weighing import count_instructions, profile_kept, weigh

Say = Callable[[str], None]


def validate(
    artifact: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] = "",
    match: str = BY_NAME,
    architecture: str = "",
    input: str | Iterable[str] = (),  # noqa: A002  named as the option
    inputs: str | os.PathLike[str] = "",
    trust: bool = False,
    threads: Iterable[int] | None = None,
    protocol: str = DEFAULT,
    policy: str | os.PathLike[str] = "",
    baseline: str | os.PathLike[str] = "",
    max_regression: float | None = None,
    seed: int = 0,
    timeout_seconds: float = 1800.0,
    memory_bytes: int = 0,
    signature: str = "",
    fix: Iterable[str] = (),
    layout: str = KEEP,
    allow: Iterable[str] = (),
    base: str | os.PathLike[str] = "",
    gate: QualityGate | None = None,
    golden: str | os.PathLike[str] = "",
    self_test: bool = False,
    sweep: Iterable[str] = (),
    batch_within: str = "",
    device: DeviceRequest | None = None,
    instructions: bool = False,
    profile: bool = False,
    say: Say = lambda _: None,
) -> Report:
    """Judge an artifact against the model it was made from, by the rules `convert` judges its own by.

    Args:
        artifact: path of a TFLite, ONNX or TorchScript file, or of a SavedModel folder; it is only read.
        reference: path of the model file or folder it was made from.
        out: folder for the report; default `<artifact name>-proof` beside the artifact.
        match: how tensors correspond: by `names`, or by `position` where the artifact's are named otherwise.
        architecture, input, inputs, trust: what the reference needs to be loaded; see `convert.convert`.
        base: path of the float artifact that a quantized one was made of; without it the artifact is held against
            itself in float arithmetic, which shows no fault of its weights and scales.
        gate: how good a quantized artifact has to be; see `convert.convert`.
        sweep: what to measure the artifact at beside, such as `"batch=1,2,4"` or `"threads=1,2"`.
        batch_within: a size, such as `"512 MiB"`: find the largest batch whose peak memory is within it.
        instructions: count the executed instructions of an inference, too; see `validators.instructions`.
        profile: time every operator, too; see `validators.profiles`.
        self_test: plant faults in the artifact where it passes and see whether the checks catch them.
        golden: folder for golden vectors of the artifact where it passes; see `validators.golden`.
        device: time the artifact there instead of on this machine.
        layout: of the artifact's image inputs, where it is not the reference's and the file does not say so.
        policy, baseline, max_regression: as in `convert.convert`; the baseline is of the artifact's format.
        threads, protocol, seed, timeout_seconds, memory_bytes, signature, fix, allow, say: as in `convert.convert`.

    Returns:
        The report; `exit_code` is 0 when every check passed and 1 otherwise.

    Raises:
        UsageError: the request or its input cannot be honoured.
        LoadError: the reference's framework cannot load it.
        WorkerError: the process that loads or runs the reference failed.
    """
    started = time.monotonic()
    if match not in MATCHES:
        raise UnknownName.among("way to match", match, MATCHES)
    timing = protocol_of(protocol)
    threads = timing.threads if threads is None else tuple(threads)
    self_test = self_test or timing.self_test
    check_run(seed, threads, timeout_seconds, memory_bytes)
    fix, allow = tuple(fix), tuple(allow)
    for noun, names, known in (("layout", (layout,), LAYOUTS), ("kind of operators", allow, FOREIGN)):
        for name in names:
            if name not in known:
                raise UnknownName.among(noun, name, known)
    path = Path(artifact)
    form = recognise(path)
    if base and (found := recognise(Path(base))).name != form.name:
        raise UsageError(f"--base {base} is {found.title}, and {path} is {form.title}", fix="give one of its format")
    check_baseline(str(baseline), max_regression, (form.name,))
    enforced = read_enforced(str(policy))
    sweeps = sweeps_from(sweep)
    within = bytes_from(batch_within, "--batch-within") if batch_within else 0
    if device is not None:
        check_timing(device, (form.name,), threads, baseline=str(baseline))
    runtime = runtime_for(form.name)
    source = identify(Path(reference))
    specs = (input,) if isinstance(input, str) else tuple(input)
    gate = gate or QualityGate()
    check_gate(gate, inputs=bool(inputs))
    if golden:
        check_place(Path(golden))
    user = read_user_file(Path(inputs)) if inputs else None
    options = LoadOptions(
        architecture, specs_from(specs), specs_of(user) if user else (), trust, signature, sizes_from(fix)
    )
    home = Path(out) if out else path.with_name(f"{path.name}-proof")
    companions = form.companions(path)
    made = Artifact(
        str(path),
        form.name,
        "",  # what the file's own numbers say
        Signature((), ()),
        *fingerprint(path, companions),
        companions=tuple(map(str, companions)),
    )
    with folder.opened(home) as stages, Workers(stages, limits_of(timeout_seconds, memory_bytes)) as workers:
        say(f"loading {source.path}: {source.detail}")
        workers.warm(runtime.environment)
        facts, load_stage = load_source(workers, source, options)
        if base:
            job = Inspection(form.name, str(base), facts.signature)
            found_in_base = workers.run("inspect-base", inspect, job, runtime.environment).value
            if found_in_base.precision != FP32:
                raise UsageError(
                    f"--base {base} is {found_in_base.precision} itself", fix="give the float artifact, or leave it out"
                )
        require_free(sweeps, within, facts.signature)
        require_known_outputs(enforced, (spec.name for spec in facts.signature.outputs))
        require_image(facts.signature, layout)
        say(f"running the reference, and {path} with {runtime.title}")
        cases = first_cases(workers, facts.signature, seed=seed, user=user, gate=gate)
        with ThreadPoolExecutor(1) as beside:
            examined = beside.submit(
                examine,
                workers,
                facts.signature,
                cases,
                made,
                form.name,
                match=match,
                allow=allow,
                layout=layout,
                ahead=True,
            )
            try:
                ran = run_source(workers, source, options, facts.signature, cases, gate=gate)
            except BaseException:
                workers.close()  # the thread waits for them
                raise
        proof = prove(workers, ran, made, form.name, base=str(base), gate=gate, examined=examined.result())
        made = dataclasses.replace(made, precision=proof.facts.precision if proof.facts else FP32)
        attempt = proof.attempt("given", "made elsewhere", made)
        target = TargetReport(form.name, made.precision, attempt.status, attempt.reason, made, (attempt,), 0)
        target = weigh(workers, ran, target, proof)
        workers.retire_all()
        if attempt.status is Status.PASS:
            target = time_proven(workers, ran, target, proof, threads, timing, say, device=device)
            swept = Subjected(ran, made, proof, form.name, seed, timing, (*threads, 1)[0])
            measured_at = [run_sweep(workers, swept, one, say) for one in sweeps]
            measured_at += [largest_batch(workers, swept, within, say)] if within else []
            target = dataclasses.replace(target, sweeps=tuple(measured_at))
            if self_test:
                judge = functools.partial(
                    prove, workers, ran, match=match, allow=allow, layout=layout, base=str(base), gate=gate
                )
                tested = run_self_test(workers, made, proof, judge, form.name, seed, say)
                target = dataclasses.replace(target, self_test=tested)
            if baseline:
                say(f"comparing with {baseline}")
                held = regress(workers, str(baseline), made, max_regression, form.name, seed=seed, user=user, say=say)
                target = target if held is None else held_against(target, held)
        else:
            unproven = [*(one.name for one in sweeps), *([BATCH] if within else [])]
            target = dataclasses.replace(
                target,
                latency_reason="not proven",
                sweeps=tuple(Swept(name, (), "not measured: the artifact is not proven") for name in unproven),
            )
        if profile:
            target = profile_kept(workers, ran, target, proof, say)
        if instructions:
            target = count_instructions(workers, ran, target, proof, say)
        target = enforce(enforced, target)
        if golden and target.status is Status.PASS:
            index = write_golden(Path(golden), ran, made, proof)
            target = dataclasses.replace(target, golden=str(index))
        report = assemble(
            command=command_line(
                "validators",
                str(path),
                [
                    ("reference", source.path),
                    ("match", match if match != BY_NAME else ""),
                    ("architecture", architecture),
                    *(("input", spec) for spec in specs),
                    ("inputs", str(inputs)),
                    ("out", str(out)),
                    ("seed", str(seed or "")),
                    ("policy", str(policy)),
                    ("baseline", str(baseline)),
                    ("max-regression", "" if max_regression is None else f"{max_regression * 100:g}%"),
                    ("protocol", protocol if protocol != DEFAULT else ""),
                    ("threads", ",".join(map(str, threads)) if threads != timing.threads else ""),
                    *device_words(device),
                    ("trust", trust),
                    ("signature", signature),
                    *(("fix", size) for size in fix),
                    ("layout", layout if layout != KEEP else ""),
                    *((f"allow-{kind}", True) for kind in allow),
                    ("base", str(base)),
                    *gate_words(gate),
                    ("golden", str(golden)),
                    ("self-test", self_test and not timing.self_test),
                    *(("sweep", str(one)) for one in sweeps),
                    ("batch-within", batch_within),
                    ("instructions", instructions),
                    ("profile", profile),
                ],
            ),
            started=started,
            source=source,
            model=facts,
            reference=dataclasses.replace(ran.report, stages=(load_stage, *ran.report.stages)),
            targets=(target,),
            path=str(home / "report.json"),
            policy=enforced.path,
        )
        folder.write_text(Path(report.path), RENDERINGS["json"].render(report))
    return report
