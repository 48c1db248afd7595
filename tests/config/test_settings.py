"""The node file: found where an operator expects it, defaults as the book says, lines that are right."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from forwarder.config.lines import ConfigErrors, parse
from forwarder.config.settings import Settings, find_folder, load_settings
from forwarder.model import Endpoint


def test_the_defaults(settings: Settings, folder: Path) -> None:
    assert settings.folder == folder
    assert settings.state == folder / "state"
    assert settings.node.recheck == timedelta(seconds=1)
    assert settings.store.max_size == 200 << 20
    assert [str(network) for network in settings.network.trusted] == ["127.0.0.0/8", "::1/128"]
    assert (settings.listen.rnasp, settings.tls, settings.plugins.disable) == ((), (), ())


def test_addresses_and_ports(folder: Path) -> None:
    (folder / "forwarder.toml").write_text(
        '[node]\nname = "MX.Example"\n[listen]\nrnasp = ["0.0.0.0:0", "[::1]:7101"]\n'
        '[resolve]\nnameservers = ["192.0.2.1", "2001:db8::1", "[::1]:5353"]\n[public]\nrnasp = "mx.example:7101"\n'
    )
    settings = load_settings(folder)
    assert settings.node.name == "mx.example"
    assert settings.listen.rnasp == (Endpoint("0.0.0.0", 0), Endpoint("::1", 7101))
    assert settings.resolve.nameservers == (
        Endpoint("192.0.2.1", 53),
        Endpoint("2001:db8::1", 53),
        Endpoint("::1", 5353),
    )
    assert str(settings.public.rnasp) == "mx.example:7101"


def test_plugins_and_bridges_have_tables_of_their_own(folder: Path) -> None:
    (folder / "forwarder.toml").write_text(
        '[node]\nname = "mx.example"\n[plugins]\ndisable = ["x"]\n[plugins.grey]\ndelay = "5m"\n'
        "[bridge.smtp_in]\na = 1\n"
    )
    settings = load_settings(folder)
    assert settings.plugins.disable == ("x",)
    assert (settings.plugins.options("grey"), settings.plugins.options("x")) == ({"delay": "5m"}, {})
    assert settings.bridge.model_extra == {"smtp_in": {"a": 1}}


def test_the_option_goes_before_the_environment(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "forwarder.toml").write_text("")
    monkeypatch.setenv("FORWARDER_CONFIG", str(other))
    assert find_folder(str(folder)) == folder
    assert find_folder(None) == other
    monkeypatch.delenv("FORWARDER_CONFIG")
    monkeypatch.chdir(tmp_path)
    assert find_folder(None) == folder


def test_a_folder_that_is_none_is_said_so(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("FORWARDER_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    for option in (None, str(tmp_path / "missing")):
        with pytest.raises(ConfigErrors, match=r"no forwarder\.toml"):
            find_folder(option)
    with pytest.raises(ConfigErrors, match="forwarder init"):
        load_settings(tmp_path)


def test_a_world_writable_folder_is_refused(folder: Path) -> None:
    folder.chmod(0o777)
    with pytest.raises(ConfigErrors, match="world-writable"):
        find_folder(str(folder))


@pytest.mark.parametrize("inner", ["addresses", "domains", "accounts", "forwarder.toml"])
def test_so_is_one_whose_parts_anybody_may_write(folder: Path, inner: str) -> None:
    part = folder / inner
    if not part.exists():
        part.mkdir()
    part.chmod(part.stat().st_mode | 0o002)
    with pytest.raises(ConfigErrors, match=f"{inner}: is world-writable"):
        find_folder(str(folder))


def test_a_file_named_in_the_place_of_its_folder(folder: Path) -> None:
    with pytest.raises(ConfigErrors, match="name the folder it lies in"):
        find_folder(str(folder / "forwarder.toml"))


KEY = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F, exclude_characters="\x7f"), min_size=1, max_size=6)
VALUE = st.one_of(
    st.integers(-9, 9),
    st.booleans(),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F), max_size=8),
    st.lists(st.text("ab,[]{}#\"'", max_size=4), max_size=3),
)


@given(st.dictionaries(KEY, VALUE | st.dictionaries(KEY, VALUE, max_size=3), max_size=4), st.booleans())
def test_each_value_is_found_on_its_line(data: dict[str, Any], multiline: bool) -> None:
    text = tomli_w.dumps(data, multiline_strings=multiline)
    document = parse(text, "x")
    lines = text.split("\n")
    for key, value in data.items():
        for path in [(key,)] + [(key, inner) for inner in (value if isinstance(value, dict) else ())]:
            assert path in document.lines
            shown = lines[document.lines[path] - 1]
            assert path[-1] in shown or json.dumps(path[-1], ensure_ascii=False) in shown


def test_lines_of_what_a_generator_does_not_write() -> None:
    text = (
        "# top\r\na.b.c = 1 # x\n'q [' = '''\n[no]\n''' # y\nl = [ # z\n  1, [2,\n 3], # w\n  { x = ']' }, \n]\n"
        '[[t]]\nk = """\\"""\n"""""\n[[t]]\n[t.u]\nv = 1979-05-27 07:32:00\n'
    )
    document = parse(text, "x")
    assert document.lines == {
        ("a",): 2, ("a", "b"): 2, ("a", "b", "c"): 2, ("q [",): 3, ("l",): 6, ("l", 0): 7, ("l", 1): 7, ("l", 2): 9,
        ("t",): 11, ("t", 0): 11, ("t", 0, "k"): 12, ("t", 1): 14, ("t", 1, "u"): 15, ("t", "u"): 15,
        ("t", 1, "u", "v"): 16,
    }  # fmt: skip
    assert document.line(("l", 2, "x")) == 9
    assert document.line(("nothing",)) == 1
