"""What Postfix must be told, out of the node file as services and carriers read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forwarder.cli.errors import No, Wrong
from forwarder.cli.folder import Folder, open_folder
from forwarder.config.doors import Door, doors
from forwarder.config.edge import Apart, Edge, main_cf, master_cf

PRINTED = {"main.cf": main_cf, "master.cf": master_cf}


def lines(config: str | None, file: str | None) -> str:
    """Those of one file, or of both under headings. Raises No where mail has no way in, ConfigErrors."""
    edge = _edge(open_folder(config))
    try:
        if file is not None:
            return PRINTED[file](edge).rstrip("\n")
        return "\n".join(f"# ---- {name} ----\n{printed(edge)}" for name, printed in PRINTED.items())
    except Apart as error:
        raise Wrong(f"forwarder: {error}") from None


def _edge(folder: Folder) -> Edge:
    found = doors(folder.settings, folder.plugins.services, folder.plugins.carriers)
    services: Mapping[str, Door] = {door.spec.name: door for door in found.services if door.places}
    missing = [name for name in ("lmtp", "postfix_map") if name not in services]
    if missing:
        raise No(f"forwarder: [listen] has no {' and no '.join(missing)}: docs/postfix.md shows what to write there")
    places = {name: door.places[0] for name, door in services.items()}
    options: Any = services["lmtp"].options  # the bridge's own, whose type is the plugin's
    return Edge(
        domains=sorted(folder.addresses.domains),
        returns=options.returns.domain if options.returns else "",
        lmtp=places["lmtp"],
        map=places["postfix_map"],
        submission=places.get("submission"),
        auth=places.get("postfix_auth"),
        max_size=options.smtp_in.max_size,
        sessions=options.smtp_in.sessions,
        smarthost=options.smtp_out.smarthost if options.smtp_out else "",
        by_sender=not options.fixed_account,
    )
