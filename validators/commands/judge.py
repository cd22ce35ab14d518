"""`python -m validators judge`: the numbers of a report, held against a team's own policy, without running anything."""

from __future__ import annotations

import sys

import click

from convert.terminal import Command, deliver, exits
from validators.commands import COMMANDS, SETTINGS, Other

EPILOG = """\b
Exit codes: 0 every target is within the policy; 1 one is not, or could not be judged; 2 usage or input; 3 nothing could
be loaded; 130 or 143 interrupted.
\b
Example:
  python -m validators judge build/digits/report.json --policy policy.toml"""


@click.command("judge", cls=Command, epilog=EPILOG, context_settings=SETTINGS)
@click.argument("report")
@click.option(
    "--policy", default="", metavar="FILE.toml", help="What to hold the numbers against.  [default: the tool's bounds]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
def main(report: str, policy: str, *, as_json: bool) -> None:
    """Judge the numbers of REPORT, a report.json or its folder, again.

    By the built-in bounds or by a policy of your own, from the report alone: no model, artifact or framework is needed.
    """
    with exits():
        # NOTE: Why imported here: --help must not wait for anything.
        from pathlib import Path

        import msgspec

        from validators.commands import _verdict
        from validators.policy import Policy, judge, read_back, read_policy
        from validators.verdict import Status

        found = judge(read_back(Path(report)), read_policy(Path(policy)) if policy else Policy())
        if as_json:
            deliver(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
        else:
            deliver(
                "".join(_verdict.as_text(f"{item.label} (was {item.before.value})", item.verdict) for item in found)
            )
        sys.exit(0 if all(item.verdict.status is Status.PASS for item in found) else 1)


COMMANDS.register(Other("judge", main))
