"""`check`: reads everything; silent if all is fine."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.options import Config, Json


def check(
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings too.")] = False,
    network: Annotated[bool, typer.Option("--network", help="Also look up the agents of all targets.")] = False,
    config: Config = None,
    json: Json = False,
) -> int:
    """Check the whole configuration; silent if fine.

    Errors exit 2, one line each; warnings are printed, exit 0, with --strict 1. Offline unless --network.
    """
    from forwarder.cli import checking

    findings = checking.findings(config, network=network)
    checking.print_findings(findings, json)
    if any(finding.level == "error" for finding in findings):
        return 2
    return 1 if strict and findings else 0
