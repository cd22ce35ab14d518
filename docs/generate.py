"""Write what is generated from the code: the schemas of reports and policies, and the help texts in the README."""

from __future__ import annotations

import json
import re
from pathlib import Path

from click.testing import CliRunner

from convert.cli import main as convert
from validators.cli import main as validators
from validators.policy_schema import schema as policy_schema
from validators.reports.json import schema

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "docs" / "report.schema.json"
POLICY_SCHEMA = ROOT / "docs" / "policy.schema.json"
README = ROOT / "README.md"
COMMANDS = {"convert": convert, "validators": validators}


def schema_text() -> str:
    """Give the published JSON schema of `report.json`."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


def policy_schema_text() -> str:
    """Give the published JSON schema of a policy file."""
    return json.dumps(policy_schema(), indent=1, sort_keys=True) + "\n"


def readme_text(current: str) -> str:
    """Give the README with the help text of every command between its markers."""
    for name, command in COMMANDS.items():
        help_text = CliRunner().invoke(command, ["--help"], prog_name=f"python -m {name}", terminal_width=100).output
        lines = "\n".join(line.rstrip() for line in help_text.splitlines())
        block = f"<!-- begin help {name} -->\n```\n{lines}\n```\n<!-- end help {name} -->"
        pattern = rf"<!-- begin help {name} -->.*?<!-- end help {name} -->"
        current = re.sub(pattern, lambda _, text=block: text, current, flags=re.DOTALL)
    return current


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    POLICY_SCHEMA.write_text(policy_schema_text(), encoding="utf-8")
    README.write_text(readme_text(README.read_text(encoding="utf-8")), encoding="utf-8")
