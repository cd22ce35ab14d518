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
    "--policy",
    default="",
    metavar="FILE.toml",
    help="What to hold the numbers against.  [default: edgeproof.toml in the working folder, else the tool's bounds]",
)
@click.option("--no-policy", is_flag=True, help="Ignore an edgeproof.toml in the working folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
def main(report: str, policy: str, *, no_policy: bool, as_json: bool) -> None:
    """Judge the numbers of REPORT, a report.json or its folder, again.

    By the built-in bounds or by a policy of your own, from the report alone: no model, artifact or framework is needed.
    """
    with exits():
        # NOTE: Why imported here: --help must not wait for anything.
        from pathlib import Path

        import msgspec

        from validators.commands import _verdict
        from validators.enforcement import found_policy, read_enforced
        from validators.policy import judge, read_back
        from validators.verdict import Status

        held = read_enforced(found_policy(policy, ignored=no_policy))
        found = judge(read_back(Path(report)), held.policy)
        if as_json:
            deliver(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
        else:
            deliver(
                f"policy: {held.path or 'none, by the bounds of the tool'}\n"
                + "".join(_verdict.as_text(f"{item.label} (was {item.before.value})", item.verdict) for item in found)
            )
        sys.exit(0 if all(item.verdict.status is Status.PASS for item in found) else 1)


COMMANDS.register(Other("judge", main))
