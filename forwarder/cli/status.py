"""`status`: what the running daemon says of itself."""

from __future__ import annotations

from forwarder.cli.options import Config, Json


def status(config: Config = None, json: Json = False) -> int:
    """Show how the running daemon does.

    Listeners, generation, counters, waiting work, broken files, faults of plugins. Exit 1 if none runs.
    """
    from forwarder.cli.folder import open_folder
    from forwarder.cli.output import print_facts, print_json, when

    said = open_folder(config).ask("status")
    said.pop("ok", None)
    if json:
        print_json(said)
    else:
        since = said.get("since")
        said["since"] = when(int(since)) if isinstance(since, int | float) else since
        print_facts({name.replace("_", " "): _lines(value) for name, value in said.items()})
    return 0


def _lines(value: object) -> object:
    """A table as a line for each key, a list of tables as a line for each."""
    if isinstance(value, dict):
        return [f"{key} {_said(inner)}" for key, inner in value.items()] or "none"
    if isinstance(value, list):
        return [_said(inner) for inner in value] or "none"
    return value


def _said(value: object) -> str:
    if value in ({}, []):
        return "none"
    if isinstance(value, dict):
        return "  ".join(f"{key} {_said(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_said(inner) for inner in value)
    return str(value)
