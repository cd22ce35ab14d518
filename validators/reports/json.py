"""The report as JSON, complete, with a published schema."""

from __future__ import annotations

from typing import Any

import msgspec

from validators.report import Report
from validators.reports import RENDERINGS, Rendering


def render(report: Report) -> str:
    """Give the whole report, indented."""
    return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"


def read(text: str | bytes) -> Report:
    """Read a report back; raises msgspec.ValidationError where it does not fit the schema."""
    return msgspec.json.decode(text, type=Report)


def schema() -> dict[str, Any]:
    """Give the JSON schema of `report.json`."""
    return msgspec.json.schema(Report)


RENDERINGS.register(Rendering("json", "JSON", render))
