"""What verbs do to the files: comments stay, a bad result changes nothing, one writer at a time."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from forwarder.config import disk
from forwarder.config.accounts import AccountTable, hash_password
from forwarder.config.assign import Assignment, BadAssignment, parse_assignment
from forwarder.config.edit import AlreadyThere, Editor, NotThere, edited
from forwarder.config.entries import Core
from forwarder.config.lines import ConfigErrors
from forwarder.config.settings import Settings
from forwarder.model import Mailbox

Write = Callable[[str, str], Path]
BRIAN = Mailbox("Brian", "pobox.example")


def typed(*texts: str) -> list[Assignment]:
    return [parse_assignment(text) for text in texts]


@pytest.fixture
def editor(settings: Settings, specs: Mapping[str, Any]) -> Editor:
    return Editor(settings, specs)


def test_add_writes_a_file_that_a_look_up_understands(editor: Editor, folder: Path) -> None:
    path = editor.add_address(
        BRIAN,
        typed(
            "strategy=pull_hold", "kind=role", "readers=bob,freda", "pull_hold.keep=7y", "limits.waiting=5",
            "expires=2027-01-31", "tell_members=true", "note=3",
        ),
    )  # fmt: skip
    assert path == folder / "addresses/pobox.example/brian.toml"
    written = tomllib.loads(path.read_text())
    expires = written.pop("expires")
    assert written == {
        "strategy": "pull_hold",
        "kind": "role",
        "readers": ["bob", "freda"],
        "tell_members": True,
        "note": "3",
        "limits": {"waiting": 5},
        "pull_hold": {"keep": "7y"},
    }
    assert str(expires) == "2027-01-31"
    assert path.stat().st_mode & 0o777 == 0o640


def test_add_of_what_is_there_and_set_of_what_is_not(editor: Editor, write: Write) -> None:
    write("brian", 'to = ["b@isp.example"]\n')
    with pytest.raises(AlreadyThere, match=r"addresses/pobox.example/brian.toml"):
        editor.add_address(BRIAN, typed("to=c@isp.example"))
    anna = Mailbox("anna", "pobox.example")
    with pytest.raises(NotThere, match=r"addresses/pobox.example/anna.toml"):
        editor.set_address(anna, typed("to=c@isp.example"))
    with pytest.raises(NotThere):
        editor.remove_address(anna)


def test_a_domain_of_others_takes_no_address(editor: Editor) -> None:
    with pytest.raises(ConfigErrors, match="forwarder domain add isp"):
        editor.add_address(Mailbox("brian", "isp.example"), typed("to=c@isp.example"))


OLD = """\
# Brian moved to the ISP in May.
kind = "role"        # both of them
to = [
  "b@isp.example",   # at work
  "b@home.example",  # at home
]

limits = { waiting = 5 }   # he is patient
[rewrite_resend]
# the seed's own form
stateless = true
"""


def test_set_keeps_comments_order_mode_and_owner(editor: Editor, write: Write) -> None:
    path = write("brian", OLD)
    os.chmod(path, 0o604)
    editor.set_address(BRIAN, typed("to+=f@isp.example", "to-=b@home.example", "limits.waiting=7", "note=by hand"))
    text = path.read_text()
    assert tomllib.loads(text) == {
        "kind": "role",
        "to": ["b@isp.example", "f@isp.example"],
        "limits": {"waiting": 7},
        "note": "by hand",
        "rewrite_resend": {"stateless": True},
    }
    for comment in ("# Brian moved", "# both of them", "# at work", "# he is patient", "# the seed's own form"):
        assert comment in text
    assert text.index("kind") < text.index("to =") < text.index("limits") < text.index("[rewrite_resend]")
    assert path.stat().st_mode & 0o777 == 0o604


def test_a_result_that_is_wrong_changes_nothing(editor: Editor, write: Write, folder: Path) -> None:
    path = write("brian", OLD)
    before = {entry.name for entry in path.parent.iterdir()}
    for assignments in (typed("kind="), typed("strategy=redirct"), typed("limits.waiting=many"), typed("sate=off")):
        with pytest.raises(ConfigErrors):
            editor.set_address(BRIAN, assignments)
    with pytest.raises(ConfigErrors):
        editor.add_address(Mailbox("new", "pobox.example"), typed("to=nowhere"))
    assert path.read_text() == OLD
    assert {entry.name for entry in path.parent.iterdir()} == before


def test_off_on_and_remove(editor: Editor, write: Write) -> None:
    path = write("brian", OLD)
    editor.set_address(BRIAN, typed("state=off"))
    assert tomllib.loads(path.read_text())["state"] == "off"
    editor.set_address(BRIAN, typed("state=on"))
    assert tomllib.loads(path.read_text())["state"] == "on"
    editor.remove_address(BRIAN)
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(editor: Editor, folder: Path) -> None:
    for path in (folder, folder / "addresses", folder / "addresses/pobox.example"):
        os.chown(path, 12345, 54321)
    path = editor.add_address(BRIAN, typed("to=c@isp.example"))
    editor.set_address(BRIAN, typed("note=x"))
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_a_link_stays_a_link(editor: Editor, write: Write, folder: Path) -> None:
    real = write("shared/brian.toml", OLD)
    (folder / "addresses/pobox.example/brian.toml").symlink_to(real)
    editor.set_address(BRIAN, typed("note=x"))
    assert (folder / "addresses/pobox.example/brian.toml").is_symlink()
    assert tomllib.loads(real.read_text())["note"] == "x"


def test_domains(editor: Editor, write: Write, folder: Path) -> None:
    path = editor.add_domain(
        "new.example", typed("catch_all.to=a@isp.example", "dns.mode=serve", "tag=-", "dns.ttl=2h")
    )
    assert tomllib.loads(path.read_text()) == {
        "tag": "-",
        "catch_all": {"to": ["a@isp.example"]},
        "dns": {"mode": "serve", "ttl": "2h"},
    }
    editor.set_domain(
        "new.example", typed("defaults.pull_hold.keep=7y", "catch_all=", 'pattern=[{match="s-*",to=["{1}@x.example"]}]')
    )
    assert set(tomllib.loads(path.read_text())) == {"tag", "dns", "defaults", "pattern"}
    with pytest.raises(ConfigErrors, match="ties with"):
        editor.set_domain(
            "new.example", typed('pattern=[{match="a*",to=["x@x.example"]},{match="*a",to=["y@x.example"]}]')
        )
    editor.remove_domain("new.example")
    assert not path.exists()


def test_accounts(editor: Editor, folder: Path) -> None:
    path = editor.add_account("brian", hash_password("sesame"), typed("may=read,originate"))
    assert tomllib.loads(path.read_text())["may"] == ["read", "originate"]
    editor.set_account("brian", typed("state=off", "limits.recipients_per_day=5"))
    assert tomllib.loads(path.read_text())["limits"] == {"recipients_per_day": 5}
    editor.remove_account("brian")
    with pytest.raises(BadAssignment):
        editor.remove_account("../forwarder")


def test_one_writer_at_a_time(editor: Editor, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(disk, "LOCK_WAIT", 0.0)
    with disk.locked(folder), pytest.raises(disk.Locked):
        editor.add_address(BRIAN, typed("to=c@isp.example"))
    editor.add_address(BRIAN, typed("to=c@isp.example"))


@pytest.mark.parametrize(
    ("text", "path", "operator", "value"),
    [
        ("to=a@b", ("to",), "=", "a@b"),
        ("to+=a@b", ("to",), "+=", "a@b"),
        ("to-=a@b", ("to",), "-=", "a@b"),
        ("pull_hold.keep=7y", ("pull_hold", "keep"), "=", "7y"),
        ('via."b@isp.example"=smtp', ("via", "b@isp.example"), "=", "smtp"),
        ("note= a=b ", ("note",), "=", "a=b"),
        ("note=", ("note",), "=", ""),
    ],
)
def test_how_an_assignment_reads(text: str, path: tuple[str, ...], operator: str, value: str) -> None:
    assert parse_assignment(text) == Assignment(path, operator, value)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "to", "=x", "to:x", "a..b=1", "+=x", "a b=1", "a." * 32 + "a=1"])
def test_what_is_no_assignment(text: str) -> None:
    with pytest.raises(BadAssignment):
        parse_assignment(text)


DEEP, LONG = "to=" + "[" * 3000, "limits.targets=" + "9" * 5000
INLINE = "limits.deep.er=1"  # a table in an inline one


@pytest.mark.parametrize(
    "text", ["note+=x", "to-=nobody@isp.example", "to=[1", "note.deep=x", "to=[1] x", DEEP, LONG, INLINE]
)
def test_what_does_not_fit_its_key(editor: Editor, write: Write, text: str) -> None:
    path = write("brian", 'note = "x"\nto = ["b@isp.example"]\nlimits = { waiting = 1 }\n')
    before = path.read_text()
    with pytest.raises((BadAssignment, ConfigErrors)):
        editor.set_address(BRIAN, typed(text))
    assert path.read_text() == before


def test_what_cannot_be_written_is_not_added(editor: Editor, folder: Path) -> None:
    with pytest.raises(BadAssignment, match="nested too deep"):
        editor.add_address(BRIAN, typed("note=" + "[" * 400 + "]" * 400))
    assert not list((folder / "addresses/pobox.example").iterdir())


COMMENT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(lambda text: f"# {text}\n")
LINE = st.sampled_from(
    [
        'note = "x"\n',
        'owner = "brian"\n',
        'kind = "role"\n',
        'to = ["a@x.example", "b@x.example"]\n',
        "limits.waiting = 3\n",
    ]
)
CHANGE = st.sampled_from(
    ["note=y", "note=", "owner=", "kind=group", "to+=c@x.example", "to=d@x.example", "to=", "limits.targets=4",
     "limits.waiting=", "pull_hold.keep=7y", "tell_members=true", "via=smtp"]
)  # fmt: skip


@hypothesis_settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(COMMENT, LINE), unique_by=lambda pair: pair[1].split(" ")[0]),
    st.booleans(),
    st.lists(CHANGE, max_size=4),
)
def test_an_edit_keeps_the_comments_and_does_just_what_it_says(
    lines: list[tuple[str, str]], tail: bool, changes: list[str]
) -> None:
    text = "".join(comment + line for comment, line in lines) + ("# last\n[pull_hold]\nkeep = '1y'\n" if tail else "")
    after = edited(text, typed(*changes), {"": Core, "account": AccountTable}, "x.toml")
    assert [line for line in after.split("\n") if line.startswith("#")] == [
        line for line in text.split("\n") if line.startswith("#")
    ]
    values = tomllib.loads(after)
    if "note=y" in changes and "note=" not in changes:
        assert values["note"] == "y"
