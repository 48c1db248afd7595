"""`plugins`: what is installed, and how it fares."""

from __future__ import annotations

from typing import Any

from forwarder.cli.options import Config, Json

OTHERS = ("screen", "service", "carrier")


def plugins(config: Config = None, json: Json = False) -> int:
    """List installed strategies, screens, services and carriers.

    Their versions, options, origins and faults. Exit 1 if one is broken.
    """
    import dataclasses

    from forwarder.cli.errors import No
    from forwarder.cli.folder import open_folder
    from forwarder.cli.output import print_json, print_table

    folder = open_folder(config)
    found = folder.plugins
    faults = _faults(folder)
    rows = [dataclasses.asdict(plugin) | {"faults": faults.get(plugin.name)} for plugin in found.installed]
    problems = [dataclasses.asdict(problem) for problem in found.problems]
    if json:
        print_json({"plugins": rows, "problems": problems})
    elif rows:
        print_table(("plugin", "offers", "version", "from", "options", "faults"), [_line(row) for row in rows])
    if problems:
        raise No(*(f"forwarder: plugin {problem['plugin']}: {problem['text']}" for problem in problems))
    return 0


def _faults(folder: Any) -> dict[str, Any]:
    """By plugin, of the running daemon; empty where none runs."""
    from forwarder.cli.errors import No

    try:
        faults = folder.ask("status").get("plugins")
    except No:
        return {}
    return faults if isinstance(faults, dict) else {}


def _line(row: dict[str, Any]) -> dict[str, Any]:
    options = [
        f"{name}.{key}={_toml(told['default'])}" if not told["required"] else f"{name}.{key} (required)"
        for name, table in row["options"].items()
        for key, told in table.items()
    ]
    return {
        "plugin": row["name"],
        "offers": [*row["strategies"], *(f"{what} {name}" for what in OTHERS for name in row[f"{what}s"])],
        "version": row["version"],
        "from": row["distribution"],
        "options": options or None,
        "faults": row["faults"] and row["faults"].get("faults"),
    }


def _toml(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
