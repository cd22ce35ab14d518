"""Write "How the bounds separate" into docs/parity.md, between its markers, from the kept results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import separation
from calibrate_results import BEFORE, Export, Judged, Result, faint, read, tool_of
from halves import BY_NAME, CALIBRATION, FORMATS, FP32, HELD_OUT, SUBJECTS
from models import UNSEEN
from page import plain
from planted import FAINT_SCALE
from separation import Curve, curve

from validators import tolerance

BEGIN, END = "<!-- made by make calibrate-tolerance: begin -->", "<!-- made by make calibrate-tolerance: end -->"
HALVES = (CALIBRATION, HELD_OUT)


def write(path: Path) -> None:
    """Replace what stands between the markers."""
    found = [result for subject in SUBJECTS if (result := read(subject.name)) is not None]
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path} must have each of these once: {BEGIN} {END}")
    head, rest = text.split(BEGIN)
    path.write_text(head + "\n".join([BEGIN, "", *lines(found), END]) + rest.split(END)[1])


def lines(found: list[Result]) -> list[str]:
    """Write the whole section."""
    if not found:
        return ["Nothing has been measured.", ""]
    return [*models(found), *summary(found), *curves(found), *named(found)]


def models(found: list[Result]) -> list[str]:
    unseen = {entry.name for entry in UNSEEN}
    made = []
    for half in HALVES:
        some = [result.model for result in found if result.half == half]
        shown = ", ".join(f"{name} ({BY_NAME[name].family}{'; in no zoo' * (name in unseen)})" for name in some)
        made.append(f"- {half}, {len(some)} models: {shown or 'none'}")
    newest = found[-1]
    versions = ", ".join(f"{name} {version}" for name, version in newest.versions.items() if name != "edgeproof")
    machine = ", ".join(f"{name} {value}" for name, value in newest.machine.items())
    stale = sum(result.tool != tool_of() for result in found)
    said = [f"{stale} of these results were made by other code of the tool than this."] if stale else []
    return [*made, "", f"Versions: {versions}. Machine: {machine}.", *said, ""]


def of_half(found: list[Result], half: str) -> list[Result]:
    return [result for result in found if result.half == half]


def share(part: int, whole: int) -> str:
    return f"{part} of {whole}" + (f" ({part / whole:.1%})" if whole else "")


def summary(found: list[Result]) -> list[str]:
    rows: list[list[str]] = [["figure", *HALVES], ["---"] * 3]
    sides = [of_half(found, half) for half in HALVES]

    def row(name: str, figures: Iterable[str]) -> None:
        rows.append([name, *figures])

    row("right exports refused", (share(len(flat(s, "refused")), len(flat(s, "rights"))) for s in sides))
    row("wrong exports by another check (the zoo's, or ONNX's own evaluator): refused", (wrong(s) for s in sides))
    counted = [[fault for _, fault in flat(side, "faults") if fault.counts] for side in sides]
    row("planted faults caught", (share(sum(f.caught for f in some), len(some)) for some in counted))
    row("of those before any number", (str(sum(f.told_by == BEFORE for f in some)) for some in counted))
    planted = [[fault for _, fault in flat(side, "faults")] for side in sides]
    row("not counted: moved the answers no more than their precision must err, or not for worse; of those caught", (
        f"{sum(f.hidden for f in some)}; {sum(f.hidden and f.caught for f in some)}" for some in planted
    ))  # fmt: skip
    row("not counted: changed no answer by a bit", (str(sum(f.idle for f in some)) for some in planted))
    row("could not be planted", (str(sum(not f.planted for f in some)) for some in planted))
    row("exports that could not be made, models that could not be judged", (
        f"{sum(len(r.missing) for r in side)}, {sum(bool(r.error) for r in side)}" for side in sides
    ))  # fmt: skip
    return [*(f"| {' | '.join(cells)} |" for cells in rows), ""]


def flat(side: list[Result], name: str) -> list:
    return [item for result in side for item in getattr(result, name)]


def wrong(side: list[Result]) -> str:
    some = [export for result in side for export in result.exports if export.wrong]
    return share(sum(export.right.status == "FAIL" for export in some), len(some)) if some else "none"


def groups(found: list[Result], precision: str, form: str = "") -> tuple[list[Judged], list[Judged], list[Judged]]:
    """Give the right files, the faults that count, and the faint ones, of a precision and of a format or of all."""
    some = [
        export
        for result in found
        for export in result.rights
        if export.precision == precision and form in ("", export.form)
    ]
    faults = [fault for export in some for fault in export.faults if fault.counts]
    strong, weak = ([fault for fault in faults if faint(fault) is sort] for sort in (False, True))
    return [export.right for export in some], strong, weak


def measured(found: list[Result]) -> Iterator[tuple[str, Curve]]:
    """Give every curve, with the precision and format it is of."""
    made = {(export.precision, export.form) for result in found for export in result.exports}
    for precision in dict.fromkeys(p for subject in SUBJECTS for p in subject.precisions):
        rights, faults, weak = groups(found, precision)
        if not rights:
            continue
        bound = tolerance.RATIO_BOUNDS[precision]

        def of(
            name: str, limit: float | None, score: separation.Score, bad: list[Judged], good: list[Judged] = rights
        ) -> Curve:
            return curve(name, limit, map(score, good), map(score, bad))

        yield precision, of("R as judged", bound, separation.as_judged, faults)
        yield precision, of("R over all cases alone", bound, separation.ratio, faults)
        if weak:
            yield precision, of(f"R as judged, weights scaled by {FAINT_SCALE:g}", bound, separation.as_judged, weak)
        if precision == FP32:
            for name, limit, score in separation.FIXED:
                yield precision, of(name, limit, score, faults)
            continue
        for form in (form for form in FORMATS if (precision, form) in made):
            good, bad, _ = groups(found, precision, form)
            if not good:
                continue
            limit = tolerance.DISTANCE_BOUNDS.get((form, precision))
            yield f"{precision}, {form}", of("D, judged or not", limit, separation.distance, bad, good)
            if limit is not None:
                yield (
                    f"{precision}, {form}",
                    of("D over its own bound, where judged", 1.0, separation.distance_over_bound, bad, good),
                )


def curves(found: list[Result]) -> list[str]:
    head = ["of", "measure", "bound", "right, faulty", "greatest right", "smallest fault", "AUC", "faults caught",
            "right refused", "bounds that separate"]  # fmt: skip
    made: list[str] = []
    for half in HALVES:
        made += [f"### {half.capitalize()}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        made += [f"| {' | '.join(cells(of, one))} |" for of, one in measured(of_half(found, half))]
        made.append("")
    return made


def cells(of: str, one: Curve) -> list[str]:
    between = one.separating
    return [
        of,
        one.name,
        number(one.bound),
        f"{one.rights}, {one.faults}",
        number(one.greatest_right),
        number(one.smallest_fault),
        "-" if one.auc is None else f"{one.auc:.4f}",
        "-" if one.caught is None else share(one.caught, one.faults),
        "-" if one.refused is None else share(one.refused, one.rights),
        "none" if between is None else f"{number(between[0])} to {number(between[1])}",
    ]


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return "infinite" if value > 1e300 else f"{value:.3g}"


def named(found: list[Result]) -> list[str]:
    """Name everything that went wrong, and everything that is not counted although it survived."""
    made: list[str] = []
    for half in HALVES:
        side = of_half(found, half)
        made += [f"- {half}, refused: {e.label}: {plain(e.right.reason)}" for e in flat(side, "refused")]
        rightly = [export for export in flat(side, "exports") if export.wrong and export.right.status != "PASS"]
        made += [f"- {half}, refused, and wrong by another check: {e.label}: {plain(e.check)}" for e in rightly]
        made += [f"- {half}, called right and wrong by another check: {e.label}: {plain(e.check)}"
                 for e in flat(side, "wrongly_passed")]  # fmt: skip
        made += [f"- {half}, survived: {told(e, f)}" for e, f in flat(side, "survivors")]
        unseen = [(e, f) for e, f in flat(side, "faults") if f.hidden and not f.caught]
        made += [f"- {half}, not counted and not caught: {told(e, f)}" for e, f in unseen]
        made += [f"- {half}, could not be made: {r.model}, {plain(why)}" for r in side for why in r.missing]
        made += [f"- {half}, could not be judged: {r.model}: {plain(r.error)}" for r in side if r.error]
        made += [f"- {half}, no faults planted: {e.label}: {plain(e.note)}" for e in flat(side, "exports") if e.note]
    return [*made, ""] if made else ["No right export was refused, and no fault survived.", ""]


def told(export: Export, fault: Judged) -> str:
    far = "an unknown multiple of" if fault.moved is None else f"{number(fault.moved)} times"
    reason = plain(fault.reason, 160)
    return f"{export.label}: {fault.kind}, `{shortened(fault.where)}`, moves {far} what must be erred ({reason})"


def shortened(where: str, most: int = 60) -> str:
    text = plain(where, 400).replace("`", "")
    return text if len(text) <= most else f"...{text[-most:]}"
