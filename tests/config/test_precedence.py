"""Who wins, held against a model that tries everything by the sentence of the operator's book."""

from __future__ import annotations

import fnmatch
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.config.addresses import AddressFiles
from forwarder.config.settings import Node, Settings
from forwarder.model import Mailbox
from forwarder.plugin import Options, StrategySpec
from forwarder.ports import Found, Nobody

LOCAL = st.text("ab+", min_size=1, max_size=4)
GLOBS = st.lists(st.text("ab*?", min_size=1, max_size=4), max_size=4, unique=True)


class Bare(Options):
    pass


def _unused(*asked: Any) -> Any:
    raise AssertionError("a look-up makes no strategies")


SPECS = {"rewrite_resend": StrategySpec("rewrite_resend", Bare, _unused, lambda route, options: [])}


def expected(name: str, exact: set[str], globs: list[str], catch_all: bool) -> set[str] | None:
    """The entries that may win: several where patterns tie; None for nobody."""
    at = name.find("+", 1)
    names = [name] if at < 0 else [name, name[:at]]
    for one in names:
        if one in exact:
            return {f"{one}@d.example"}
    for one in names:
        fits = [glob for glob in globs if fnmatch.fnmatchcase(one, glob)]
        if fits:
            literals = [len(glob.replace("*", "").replace("?", "")) for glob in fits]
            return {f"{g}@d.example" for g, count in zip(fits, literals, strict=True) if count == max(literals)}
    return {"@d.example"} if catch_all else None


@settings(max_examples=60, deadline=None)
@given(st.sets(LOCAL, max_size=5), GLOBS, st.booleans(), st.lists(LOCAL, min_size=1, max_size=8))
def test_the_order_of_winning(exact: set[str], globs: list[str], catch_all: bool, asked: list[str]) -> None:
    globs = [glob for glob in globs if "**" not in glob]
    to = 'to = ["x@isp.example"]\n'
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "domains").mkdir()
        (folder / "addresses/d.example").mkdir(parents=True)
        text = 'catch_all = { to = ["x@isp.example"] }\n' if catch_all else ""
        text += "".join(f'[[pattern]]\nmatch = "{glob}"\n{to}' for glob in globs)
        (folder / "domains/d.example.toml").write_text(text)
        for name in exact:
            (folder / f"addresses/d.example/{name}.toml").write_text(to)
        files = AddressFiles(folder, Settings(node=Node(name="mx.example")), SPECS, lambda: 0.0)
        mailboxes = [Mailbox(name, "d.example") for name in asked]
        answers = files.read_here(mailboxes)
        for mailbox in mailboxes:
            answer, wanted = answers[mailbox], expected(mailbox.localpart, exact, globs, catch_all)
            assert files.look_up(mailbox) == answer
            if wanted is None:
                assert answer == Nobody(tell=True)
            else:
                assert isinstance(answer, Found)
                assert answer.route.entry in wanted
