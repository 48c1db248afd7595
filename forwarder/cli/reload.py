"""`reload`: the running daemon reads its files again."""

from __future__ import annotations

from forwarder.cli.options import Config, Json


def reload(config: Config = None, json: Json = False) -> int:
    """Make the running daemon read its files again.

    As SIGHUP does. Exit 1 if none runs.
    """
    from forwarder.cli.folder import open_folder
    from forwarder.cli.output import print_json, print_line

    said = open_folder(config).ask("reload")
    if json:
        print_json(said)
    else:
        generation = said.get("generation")
        print_line("reloaded" if generation is None else f"reloaded, generation {generation}")
        if said.get("restart"):
            print_line(str(said["restart"]))
    return 0
