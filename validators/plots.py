"""Pictures of a report: how the timings of each artifact are distributed, and what each sweep gave."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import MissingExtra, UnknownName, UsageError
from validators.interval import Interval
from validators.quantity import bytes_text, seconds_text, short
from validators.steady import FAR_OUT
from validators.swept import THREADS, Swept, SweptPoint

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from validators.latency import Measurement
    from validators.report import Report, TargetReport

FORMATS = ("png", "svg")

#: Colours that people with any kind of colour vision tell apart (Okabe and Ito, Color Universal Design, 2008); lines
#: and markers differ in shape too.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6E6E6E"

#: The histogram ends where runs are far out (Tukey), this share beyond the 90th percentile at least, and says how many
#: are slower: one run of a thousand that waited for another process would flatten all others into one bar.
SHOWN_BEYOND_P90 = 0.15
HEADROOM = 1.12  # of a y axis above what is greatest

BINS = 80
REASON_LETTERS, REASONS = 75, 3  # of what is missing, above a picture
RUNS_DRAWN = 3000  # single runs below the histogram, evenly spread
LOG_FROM = 20.0  # a y axis whose values differ by more is logarithmic

DOTS_PER_INCH = 150

#: Equal reports give equal files: no date, and no random names inside SVG.
STYLE = {"svg.hashsalt": "edgeproof", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}


@dataclass(frozen=True, slots=True)
class Line:
    """How one line is told from the others of a picture."""

    label: str
    colour: str
    marker: str
    style: str = "-"


def formats_of(text: str) -> tuple[str, ...]:
    """Read `png,svg`; raises UnknownName."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise UnknownName.among("format of pictures", name, FORMATS)
    return names


def require_plots(folder: str, forms: str) -> tuple[str, ...]:
    """Say in which formats pictures are drawn, none where no folder is named.

    Raises UsageError for formats without a folder or a folder that is none, and MissingExtra without matplotlib.
    """
    if not folder:
        if forms:
            raise UsageError("--plots-format has no meaning without pictures", fix="add --plots DIR")
        return ()
    found = formats_of(forms or FORMATS[0])
    if Path(folder).exists() and not Path(folder).is_dir():
        raise UsageError(f"--plots {folder} is a file", fix="name a folder")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtra("--plots needs matplotlib, which is not installed", fix='pip install "edgeproof[plots]"')
    return found


def draw(report: Report, folder: Path, forms: Sequence[str] = (FORMATS[0],)) -> tuple[Path, ...]:
    """Draw every artifact's timings and every sweep into a folder, in each format; give the files.

    Raises UsageError where the folder takes none.
    """
    import matplotlib as mpl

    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            for name, figure in pictures(report):
                written += [_write(figure, folder / f"{name}.{form}", form) for form in forms]
    except OSError as error:
        raise UsageError(f"--plots {folder} takes no pictures: {error}", fix="name another folder") from error
    return tuple(written)


def pictures(report: Report) -> Iterator[tuple[str, Figure]]:
    """Make the pictures of a report one by one, each with the name of its file."""
    for target in report.targets:
        for measured in target.latency:
            if measured.samples:
                yield f"{target.label}-latency-{measured.threads}", distribution(_heading(target), measured)
        for swept in target.sweeps:
            if swept.points and swept.limit_bytes:
                yield f"{target.label}-{swept.name}-within", largest_batch(_heading(target), swept)
            elif swept.points:
                yield f"{target.label}-sweep-{swept.name}", sweep(_heading(target), swept)


def _heading(target: TargetReport) -> str:
    name = Path(target.artifact.path).name if target.artifact else target.label
    return f"{name} ({target.target} {target.precision})"


def _write(figure: Figure, path: Path, form: str) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    figure.savefig(partial, format=form, dpi=DOTS_PER_INCH, metadata={"Date": None} if form == "svg" else None)
    partial.replace(path)
    return path


def distribution(title: str, measured: Measurement) -> Figure:
    """Draw the wall times of single inferences: how often which is, and in which order they came."""
    import numpy as np

    processes = [np.load(path)[0] * 1e-9 for path in measured.samples]
    every = np.concatenate(processes)
    cut = shown_until(every)
    factor, unit = _unit(float(np.median(every)))
    figure = _figure(8, 6)
    what = "of all these runs " if measured.withheld else ""
    above, below = figure.subplots(2, 1, height_ratios=(2, 1))
    above.hist(every[every <= cut] * factor, bins=BINS, color=BLUE, alpha=0.75, linewidth=0)
    median = measured.median_seconds or float(np.percentile(every, 50))
    p90 = measured.p90_seconds or float(np.percentile(every, 90))
    between = measured.intervals.wall if measured.intervals else None
    if between is not None:
        _band(above, between, factor)
    above.axvline(median * factor, color=RED, linewidth=2, label=f"median {what}{seconds_text(median)}")
    above.axvline(p90 * factor, color="black", linewidth=2, linestyle="--", label=f"p90 {what}{seconds_text(p90)}")
    above.set(xlabel=f"wall time of one inference [{unit}]", ylabel="runs")
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    slower = int((every > cut).sum())
    said = f"{len(every):,} runs in {len(processes)} process(es), {measured.threads} thread(s), "
    said += f"protocol {measured.protocol}"
    if slower:
        said += f"\n{slower:,} slower ones, up to {seconds_text(float(every.max()))}, are beyond the end (triangles)"
    if measured.withheld:
        said += f"\nnumbers are withheld: {short(measured.withheld, REASON_LETTERS)}"
    _entitle(figure, f"{title}: latency", said)
    above.yaxis.set_major_formatter("{x:,.0f}")
    below.xaxis.set_major_formatter("{x:,.0f}")
    _in_order(below, processes, cut, factor)
    below.set(xlabel="run, in order", ylabel=f"wall time [{unit}]")
    return figure


def shown_until(every: np.ndarray) -> float:
    """Give the time up to which single runs are drawn where they are; slower ones are counted and marked."""
    import numpy as np

    low, high, p90 = (float(np.percentile(every, share)) for share in (25, 75, 90))
    return max(high + FAR_OUT * (high - low), p90 * (1 + SHOWN_BEYOND_P90))


def _band(axes: Axes, between: Interval, factor: float) -> None:
    axes.axvspan(
        between.low * factor,
        between.high * factor,
        color=ORANGE,
        alpha=0.3,
        linewidth=0,
        zorder=0,
        label=f"median is between {seconds_text(between.low)} and {seconds_text(between.high)}",
    )


def _in_order(axes: Axes, processes: Sequence[np.ndarray], cut: float, factor: float) -> None:
    """Draw single runs one after another, each process in another shade."""
    import numpy as np

    begin, step = 0, max(1, sum(map(len, processes)) // RUNS_DRAWN)
    for number, runs in enumerate(processes):
        places = np.arange(0, len(runs), step)
        shown, slower = places[runs[places] <= cut], np.flatnonzero(runs > cut)
        axes.scatter(shown + begin, runs[shown] * factor, s=4, color=(BLUE, GREEN)[number % 2], linewidths=0)
        axes.scatter(
            slower + begin,
            np.full(len(slower), cut * factor),
            s=10,
            marker="^",
            color=GREY,
            linewidths=0,
            clip_on=False,
        )
        begin += len(runs)
    axes.set_xlim(0, begin)
    axes.set_ylim(top=cut * factor)


def sweep(title: str, swept: Swept) -> Figure:
    """Draw time and memory at every value of a sweep, which stand at equal distances."""
    points = sorted(swept.points, key=lambda point: point.value)
    per_item = swept.name != THREADS and any(point.items for point in points)
    figure = _figure(12 if per_item else 8.5, 4.6)
    panels = figure.subplots(1, 3 if per_item else 2)
    _times(panels[0], points, lambda _, seconds: seconds, "time of one inference")
    if per_item:
        _times(panels[1], points, SweptPoint.per_item, "time per item")
    memory = [None if point.peak_bytes is None else point.peak_bytes / (1 << 20) for point in points]
    _draw(panels[-1], memory, Line("peak memory", GREEN, "^"))
    panels[-1].set_ylabel("peak memory added [MiB]")
    _from_zero(panels[-1], memory)
    for axes in panels:
        _values(axes, swept.name, points, timed=axes is not panels[-1])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    protocol = next((point.latency.protocol for point in points if point.latency), "")
    said = f"each value in fresh processes, protocol {protocol}" if protocol else "nothing was measured"
    missed = [f"{point.value}: {short(point.reason, REASON_LETTERS)}" for point in points if point.reason]
    if len(missed) > REASONS:
        missed = [*missed[:REASONS], f"and {len(missed) - REASONS} more"]
    _entitle(figure, f"{title}: sweep of {swept.name}", "\n".join([said, *missed]))
    return figure


def _times(
    axes: Axes, points: Sequence[SweptPoint], share: Callable[[SweptPoint, float | None], float | None], name: str
) -> None:
    """Draw wall time with its 90th percentile, and CPU time; what is withheld is no point of its line."""
    clocks: tuple[tuple[Callable[[Measurement], float | None], Line], ...] = (
        (lambda found: found.median_seconds, Line("wall, median", BLUE, "o")),
        (lambda found: found.p90_seconds, Line("wall, p90", "black", "v", "--")),
        (lambda found: found.cpu_median_seconds, Line("CPU, median", ORANGE, "s")),
    )
    drawn = [
        ([share(point, read(point.latency)) if point.latency else None for point in points], line)
        for read, line in clocks
    ]
    known = [value for values, _ in drawn for value in values if value is not None]
    factor, unit = _unit(max(known, default=1e-3))
    for values, line in drawn:
        _draw(axes, [None if value is None else value * factor for value in values], line)
    axes.set_ylabel(f"{name} [{unit}]")
    if known and max(known) > LOG_FROM * min(known):
        axes.set_yscale("log")
    else:
        _from_zero(axes, [value * factor for value in known])


def _from_zero(axes: Axes, values: Sequence[float | None]) -> None:
    greatest = max((value for value in values if value is not None), default=1.0)
    axes.set_ylim(0, HEADROOM * greatest)


def _draw(axes: Axes, values: Sequence[float | None], line: Line) -> None:
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    axes.plot(
        [place for place, _ in known],
        [value for _, value in known],
        color=line.colour,
        marker=line.marker,
        linestyle=line.style,
        label=line.label,
        markersize=6,
    )


def _values(axes: Axes, name: str, points: Sequence[SweptPoint], *, timed: bool) -> None:
    """Name the values along the axis, and mark those at which something is missing."""
    axes.set_xticks(range(len(points)), [f"{point.value:,}" for point in points])
    axes.set_xlim(-0.5, len(points) - 0.5)
    axes.set_xlabel(name)
    axes.grid(axis="y", color=GREY, alpha=0.25)
    for place, point in enumerate(points):
        missing = (
            "not run" if point.reason else "wall withheld" if timed and point.latency and point.latency.withheld else ""
        )
        if missing:
            axes.axvspan(place - 0.3, place + 0.3, color=GREY, alpha=0.12, linewidth=0)
            axes.text(
                place,
                0.5,
                missing,
                rotation=90,
                ha="center",
                va="center",
                color=GREY,
                transform=axes.get_xaxis_transform(),
            )


def largest_batch(title: str, swept: Swept) -> Figure:
    """Draw the peak memory of every batch that was tried, and the limit."""
    figure = _figure(8, 5)
    axes = figure.subplots()
    fits = [point for point in swept.points if point.peak_bytes is not None and point.peak_bytes <= swept.limit_bytes]
    beyond = [point for point in swept.points if point.peak_bytes is not None and point.peak_bytes > swept.limit_bytes]
    failed = [point for point in swept.points if point.peak_bytes is None]
    limit = swept.limit_bytes / (1 << 20)
    for found, colour, marker, label in ((fits, BLUE, "o", "fits"), (beyond, RED, "x", "does not fit")):
        if found:
            peaks = [(point.peak_bytes or 0) / (1 << 20) for point in found]
            axes.scatter([point.value for point in found], peaks, color=colour, marker=marker, s=45, label=label)
    if failed:
        places = [point.value for point in failed]
        axes.scatter(places, [limit] * len(places), color=GREY, marker="v", s=45, label="failed or was stopped")
    axes.axhline(limit, color="black", linestyle="--", label=f"limit {bytes_text(swept.limit_bytes)}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.set(xlabel=swept.name, ylabel="peak memory added [MiB]")
    axes.grid(color=GREY, alpha=0.25)
    axes.legend(frameon=False)
    if swept.largest is not None:
        axes.axvline(swept.largest, color=BLUE, linewidth=1, alpha=0.6)
        axes.annotate(
            f" {swept.largest:,}", (swept.largest, 0), xytext=(0, 6), textcoords="offset points", color=BLUE, ha="right"
        )
    words = (
        f"{swept.name} {swept.largest:,} is the largest that fits" if swept.largest else f"none fits: {swept.reason}"
    )
    _entitle(figure, f"{title}: {swept.name} within {bytes_text(swept.limit_bytes)}", short(words))
    return figure


def _figure(width: float, height: float) -> Figure:
    """Make an empty picture that no window and no global state knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _entitle(figure: Figure, title: str, said: str) -> None:
    """Put a title above the picture, and what is to be said of it below that in smaller letters."""
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.02, ha="left")
    figure.axes[0].set_title(said, fontsize=9, color=GREY, loc="left")


def _unit(seconds: float) -> tuple[float, str]:
    """Choose the unit in which a time is a number that one reads easily."""
    if seconds < 1e-3:
        return 1e6, "µs"
    return (1e3, "ms") if seconds < 1 else (1.0, "s")
