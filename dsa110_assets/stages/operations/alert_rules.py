"""Prometheus' alert rules, made from the table of alerts: `make rules` writes `deploy/prometheus/alerts.yml`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from dsa110_assets.stages.operations.alert_table import KINDS, AlertKind, FoundBy

PLAYBOOK = "docs/operators/playbook.md, Alerts"
_HEAD = """\
# Prometheus' alert rules. Made from dsa110_assets/stages/operations/alert_table.py by `make rules`; change the table.
"""


def rules_file() -> str:
    """Content of the file of rules."""
    rules = {"groups": [{"name": "dsa110", "rules": [_rule(kind) for kind in KINDS.values()]}]}
    return _HEAD + yaml.safe_dump(rules, sort_keys=False, width=140, allow_unicode=True)


def words_of(kind: AlertKind) -> dict[str, str]:
    """What is said about an alert, in Prometheus' template language."""
    found = {"summary": kind.summary, "next_step": kind.what_to_do, "playbook": f"{PLAYBOOK}: {kind.name}"}
    if kind.found_by is not FoundBy.PROMETHEUS:
        found["page"] = "{{ $labels.page }}"
    return {name: re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text) for name, text in found.items()}  # links of Markdown


def _rule(kind: AlertKind) -> dict[str, Any]:
    rule = kind.rule
    return {
        "alert": kind.name,
        "expr": rule.expression,
        "for": rule.lasts,
        "labels": {"severity": kind.severity.value},
        "annotations": words_of(kind),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(rules_file(), encoding="utf-8")
