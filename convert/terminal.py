"""What both command lines share: talk on stderr, errors with their fix, signals, exit codes."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from convert.errors import EdgeproofError, UsageError
from convert.spec import CUSTOM, FLEX, FLOAT_IO, FP32, IO_TYPES, KEEP, LAYOUTS, PRECISIONS, share_from

if TYPE_CHECKING:
    from rich.status import Status

GIB = 1 << 30


class Command(click.Command):
    """A command whose usage errors look like all others: what is wrong, and a fix."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words of the command line; ends the program with 2 where they make no sense."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            message = error.format_message().rstrip(".")
            print(f"error: {message[:1].lower()}{message[1:]}\nfix: see {ctx.command_path} --help", file=sys.stderr)
            ctx.exit(UsageError.exit_code)


class Front(Command):
    """A command that hands over to one of `others` where its first word is that one's name."""

    def __init__(self, *words: Any, others: Callable[[], Mapping[str, click.Command]], **settings: Any) -> None:
        super().__init__(*words, **settings)
        self._others = others

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the words of the command line as this command's, or as those of the command that the first one names."""
        for name, command in self._others().items():
            if args[:1] == [name]:
                return command.make_context(f"{info_name} {name}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command whose words were read."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the other commands before the closing words."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(80)) for name, command in self._others().items()])
        super().format_epilog(ctx, formatter)


class Talk:
    """Progress on stderr: a live line on a terminal, one plain line per stage elsewhere, nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._began = time.monotonic()
        self._quiet = quiet
        self._writing = threading.Lock()
        self._status: Status | None = None

    def __enter__(self) -> Talk:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("starting")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, line: str) -> None:
        """Say that a stage begins or ended."""
        if self._quiet:
            return
        if self._status is not None:
            from rich.markup import escape

            self._status.console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/dim]  {escape(line)}")
            self._status.update(escape(line))
        else:
            # In one piece, since stages run side by side: print() writes the end of a line as a second piece.
            with self._writing:
                sys.stderr.write(f"{time.monotonic() - self._began:6.1f} s  {line}\n")
                sys.stderr.flush()


@contextlib.contextmanager
def exits() -> Iterator[None]:
    """Turn what ends a command into its documented exit code and a message on stderr.

    2 for usage and input, 3 where nothing could be made, 130 and 143 when interrupted. Bugs keep their traceback.
    """
    previous = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except EdgeproofError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output went away; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    """End the run; once, because the next signal of an impatient user would interrupt the tidying up."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    words = "interrupted" if number == signal.SIGINT else "terminated"
    print(f"{words}; nothing was left half-written", file=sys.stderr)
    raise SystemExit(128 + number)


def deliver(text: str) -> None:
    """Write a command's answer to stdout; raises UsageError where there is none or it takes no more."""
    fix = "give it a place to go"
    if sys.stdout is None:
        raise UsageError("the answer cannot be written: stdout is closed", fix=fix)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is still buffered would fail again when the interpreter ends.
        sys.stdout = None
        raise UsageError(f"the answer cannot be written to stdout: {error.strerror}", fix=fix) from error


def require_own_validators() -> None:
    """Raise UsageError when the `validators` that Python finds is another package of that name, not ours."""
    import validators

    if not getattr(validators, "__edgeproof__", False):
        raise UsageError(
            f"another package named validators is imported instead of edgeproof's: {validators.__file__}",
            fix="pip uninstall validators, then pip install --force-reinstall --no-deps edgeproof; or use an "
            "environment of its own",
        )


def threads_of(text: str) -> tuple[int, ...] | None:
    """Read `1` or `1,4`; None where nothing is said. Raises UsageError for anything but positive numbers."""
    if not text:
        return None
    try:
        counts = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        counts = (0,)
    if min(counts) < 1:
        raise UsageError(f"cannot read --threads {text!r}", fix="give numbers above zero, such as 1 or 1,4")
    return counts


def share_of(text: str, option: str) -> float | None:
    """Read `5%` or `0.05`; None where nothing is said. Raises UsageError for what is no share."""
    return share_from(text, option) if text else None


def memory_of(gibibytes: float | None) -> int:
    """Turn --memory-limit into bytes; 0 stands for the default. Raises UsageError for what is no amount of memory."""
    if gibibytes is None:
        return 0
    if not math.isfinite(gibibytes) or gibibytes <= 0:
        raise UsageError(f"--memory-limit {gibibytes:g} is no amount of memory", fix="give GiB above zero, such as 8")
    return max(1, int(gibibytes * GIB))


#: Adds options to a command.
Options = Callable[[Callable[..., None]], Callable[..., None]]


def adding(*options: Options) -> Options:
    """Give what adds options to a command, to be listed in this order."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how to load a model."""
    add = adding(
        click.option(
            "--architecture",
            default="",
            metavar="PLACE:CALLABLE",
            help="What builds the model that weights belong to: package.module:callable or path/file.py:callable.",
        ),
        click.option(
            "--input",
            "specs",
            multiple=True,
            metavar="SPEC",
            help="An input the file does not state: "
            "'image:float32[batch,1,8,8]' (free dimensions by name), 'ids:int64[1,16]=0..99' (integer range). "
            "Repeat it for several.",
        ),
        click.option(
            "--inputs",
            "inputs_file",
            default="",
            metavar="FILE.npz",
            help="Your own inputs by name; they "
            "are added to the generated ones, and state the signature where nothing else does.",
        ),
        click.option(
            "--signature", default="", metavar="NAME", help="Which signature, of a SavedModel that has several."
        ),
        click.option(
            "--fix",
            "fixed",
            multiple=True,
            metavar="NAME=SIZE",
            help="Give a free dimension a size, such as batch=1. Repeat it for several.",
        ),
        click.option(
            "--trust", is_flag=True, help="Let the model file run code of its own (pickled modules, Lambda layers)."
        ),
    )
    return add(command)


def accepting(*, layout: str, flex: str, custom: str) -> Options:
    """Give the options that say what an artifact may be, with what a command says of each."""
    return adding(
        click.option("--layout", default=KEEP, show_default=True, metavar="|".join(LAYOUTS), help=layout),
        click.option("--allow-flex", is_flag=True, help=flex),
        click.option("--allow-custom", is_flag=True, help=custom),
    )


artifact_options = accepting(
    layout="Where image inputs of TFLite files have their channels; keep: where the model has them.",
    flex="Accept TensorFlow's own operators (Select-TF), which apps must link.",
    custom="Accept custom operators and ONNX domains, which apps must bring.",
)


def precision_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how artifacts are quantized."""
    add = adding(
        click.option(
            "--precision",
            "precisions",
            default=FP32,
            show_default=True,
            metavar="P[,P]",
            help=f"Precisions to make: {', '.join(PRECISIONS)}.",
        ),
        click.option(
            "--calibration",
            default="",
            metavar="DATA",
            help="Real inputs that int8 takes its ranges from: an .npz, an .npy, a folder of arrays or images, a CSV "
            "or Parquet table of token ids, or package.module:callable; 'random' to try it out.",
        ),
        click.option(
            "--preprocess",
            default="",
            metavar="KEY=VALUE[,...]",
            help="How images become inputs: size=224x224,scale=1/255,mean=0.5:0.5:0.5,std=0.5:0.5:0.5,layout=nchw.",
        ),
        click.option(
            "--io",
            default=FLOAT_IO,
            show_default=True,
            metavar="|".join(IO_TYPES),
            help="What int8 artifacts take and give.",
        ),
        click.option("--recipe", default="", metavar="FILE", help="Quantize as this recipe of an earlier run says."),
        click.option(
            "--search-seconds",
            default=600.0,
            show_default=True,
            metavar="SECONDS",
            help="Time to search for a mixed precision that passes, per artifact; 0 for none.",
        ),
    )
    return add(command)


def quality_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how good a reduced artifact has to be."""
    share = click.FloatRange(0, 1)
    add = adding(
        click.option("--labels", default="", metavar="FILE", help="The right answers to the rows of --inputs."),
        click.option(
            "--metric",
            default="",
            metavar="NAME",
            help="What scores outputs, greater being better: top1, top5, miou, perplexity, boxes, or PLACE:CALLABLE of "
            "yours.  [default: top1]",
        ),
        click.option(
            "--min-agreement", type=share, metavar="SHARE", help="Least share of equal top answers on real inputs."
        ),
        click.option(
            "--max-accuracy-drop",
            type=share,
            metavar="SHARE",
            help="Share of the metric that may be lost, as 0.01.",
        ),
        click.option(
            "--min-sqnr-db", type=float, metavar="DB", help="Least signal to quantization noise of an output."
        ),
    )
    return add(command)


def allowed(*, flex: bool, custom: bool) -> tuple[str, ...]:
    """Name the kinds of foreign operators that the flags accept."""
    return tuple(kind for kind, accepted in ((FLEX, flex), (CUSTOM, custom)) if accepted)


def running(*, proves: bool, answer: str) -> Options:
    """Give the options that say how to run and how to answer; some only where a command `proves` and times."""
    golden = click.option(
        "--golden",
        default="",
        metavar="DIR",
        help="Write inputs and expected answers there, for `python -m validators replay` to judge a device by.",
    )
    self_test = click.option(
        "--self-test",
        is_flag=True,
        help="Plant faults in every artifact that passes, and say which the checks would have caught.",
    )
    instructions = click.option(
        "--instructions",
        is_flag=True,
        help="Count the instructions that an inference executes, with valgrind; this takes minutes.",
    )
    profile = click.option(
        "--profile",
        is_flag=True,
        help="Time every operator of what passes, and say what would make it faster.",
    )
    baseline = click.option(
        "--baseline",
        default="",
        metavar="ARTIFACT",
        help="An artifact of the same format, as released before: both are timed now, in turns.",
    )
    regression = click.option(
        "--max-regression",
        default="",
        metavar="SHARE",
        help="By how much an artifact may be slower than --baseline.  [default: 5%]",
    )
    protocol = click.option(
        "--protocol",
        default="default",
        show_default=True,
        metavar="quick|default|release|mlperf",
        help="How thoroughly to time; docs/latency.md says what each does. release turns --self-test on, too.",
    )
    threads = click.option(
        "--threads",
        default="",
        metavar="N[,N]",
        help="Threads to time at.  [default: 1; of the protocol release 1,4]",
    )
    policy = click.option(
        "--policy",
        default="",
        metavar="FILE.toml",
        help="What your team holds artifacts against, budgets among it; docs/latency.md shows one.  [default: "
        "edgeproof.toml in the working folder, where there is one]",
    )
    no_policy = click.option("--no-policy", is_flag=True, help="Ignore an edgeproof.toml in the working folder.")
    plots = click.option(
        "--plots",
        default="",
        metavar="DIR",
        help="Draw the distribution of each artifact's latency, and each sweep, into this folder.",
    )
    plots_format = click.option(
        "--plots-format", default="", metavar="png|svg|png,svg", help="How to draw them.  [default: png]"
    )
    return adding(
        *((golden, self_test, instructions, profile) if proves else ()),
        click.option("--seed", default=0, show_default=True, metavar="N", help="Seed of the generated inputs."),
        *((policy, no_policy, baseline, regression, protocol, threads, plots, plots_format) if proves else ()),
        click.option("--timeout", default=1800.0, show_default=True, metavar="SECONDS", help="Limit of each stage."),
        click.option(
            "--memory-limit",
            type=float,
            metavar="GIB",
            help="Limit of each stage's memory.  [default: nine tenths of this machine's]",
        ),
        click.option("--json", "as_json", is_flag=True, help=answer),
        click.option("--quiet", is_flag=True, help="No progress on stderr."),
    )


run_options = running(proves=True, answer="Print the report as JSON instead of the table.")
