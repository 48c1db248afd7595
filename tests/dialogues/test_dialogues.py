"""Every dialogue of this folder, against one daemon, in order; each has addresses, domains and keys of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ..program.names import Names  # noqa: TID252  # as in talk.py
from ..program.node import Node, running  # noqa: TID252
from .talk import Server, Stage, Talk, servers

TALKS = [Talk(path) for path in sorted(Path(__file__).parent.glob("*.talk"))]
ACCOUNTS = {
    "brian": "read,originate",
    "bob": "read",
    "freda": "read",
    "toby": "originate",
    "vera": "read",
    "ina": "read",
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as held:
        found = servers(TALKS)
        for server in found.values():
            if server.listener is not None:
                held.enter_context(server.listener)
        names = held.enter_context(closing(Names()))
        names.empty.add("_im2000-rnasp._tcp.empty.example")
        names.broken.add("_im2000-rnasp._tcp.broken.example")
        node = _node(tmp_path_factory.mktemp("dialogues") / "config", found, names)
        held.enter_context(running(node, turnable=True))
        yield Stage(node, found)
        assert node.stop() == 0


def _node(folder: Path, found: Mapping[str, Server], names: Names) -> Node:
    settings = {"resolve.nameservers": f'["127.0.0.1:{names.port}"]'}
    for domain, server in found.items():
        settings[f'resolve.static."{domain}"'] = f'{{ {server.service} = "127.0.0.1:{server.port}" }}'
    node = Node(folder, "pobox.example", settings)
    for account, may in ACCOUNTS.items():
        node.account(account, may)
    for talk in TALKS:
        for mailbox, toml in talk.addresses.items():
            node.address(mailbox, toml)
    return node


@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk.path.stem)
def test_dialogue(stage: Stage, talk: Talk) -> None:
    stage.play(talk)
