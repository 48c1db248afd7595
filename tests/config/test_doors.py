"""Services and carriers of plugins, as the node file asks for them: what runs where, each mistake with its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from forwarder.bridges import CarrierSpec, DomainFacts, ServiceSpec
from forwarder.config.doors import Doors, doors
from forwarder.config.lines import ConfigErrors
from forwarder.config.settings import load_settings
from forwarder.config.tables import UnixPath
from forwarder.model import Endpoint
from forwarder.plugin import Objection, Options

Write = Callable[[str, str], Path]
NODE = '[node]\nname = "mx1.pobox.example"\n'


class BridgeTable(Options):
    group: str = ""
    host: str = ""
    most: int = 3


class DoorTable(Options):
    group: str = ""
    host: str = ""
    most: int = 3


def _made(*arguments: Any) -> Any:
    raise AssertionError("nothing is made here")


def _objections(options: BridgeTable, path: Callable[[str], Path]) -> Sequence[Objection]:
    return [] if options.most < 10 else [Objection("most", f"is too much for {path('x')}")]


def _takes(facts: DomainFacts) -> bool:
    return True


SERVICES: Mapping[str, ServiceSpec[Any]] = {
    "lmtp": ServiceSpec("lmtp", "bridge", BridgeTable, _made, objections=_objections),
    "pop3": ServiceSpec("pop3", "bridge", DoorTable, _made),
    "pop3_tls": ServiceSpec("pop3_tls", "bridge", DoorTable, _made),
    "smtp_reports": ServiceSpec("smtp_reports", "bridge", BridgeTable, _made, always=True),
}
CARRIERS: Mapping[str, CarrierSpec[Any]] = {
    "smtp": CarrierSpec(
        "smtp", "bridge", BridgeTable, lambda o: bool(o.host), _takes, lambda o: o.host, _made, _objections
    )
}


@pytest.fixture
def asked(folder: Path, write: Write) -> Callable[..., Doors]:
    """What a node file with this text asks for."""

    def ask(text: str = "", services: Mapping[str, ServiceSpec[Any]] | None = SERVICES) -> Doors:
        write("forwarder.toml", NODE + text)
        return doors(load_settings(folder), services, CARRIERS)

    return ask


def said(asked: Callable[..., Doors], text: str, services: Mapping[str, Any] | None = SERVICES) -> list[str]:
    with pytest.raises(ConfigErrors) as wrong:
        asked(text, services)
    return [str(error) for error in wrong.value.errors]


def test_without_a_word_of_them_nothing_runs(asked: Callable[..., Doors]) -> None:
    assert asked() == Doors([], [])


def test_a_service_runs_where_listen_names_it_and_gets_its_table_whole(asked: Callable[..., Doors]) -> None:
    found = asked('[listen]\nlmtp = ["unix:/run/x/lmtp", "127.0.0.1:24"]\npop3 = ["[::1]:110"]\n[bridge]\nmost = 5\n')
    places = {door.spec.name: door.places for door in found.services}
    assert places == {
        "lmtp": (UnixPath("/run/x/lmtp"), Endpoint("127.0.0.1", 24)),
        "pop3": (Endpoint("::1", 110),),
        "smtp_reports": (),
    }
    assert [door.options for door in found.services if door.spec.name != "pop3"] == [BridgeTable(most=5)] * 2


def test_one_that_only_works_runs_where_its_table_is_there(asked: Callable[..., Doors]) -> None:
    """Or where another of its table listens, by defaults: what that one takes in may have to be reported."""
    said = asked('[listen]\npop3 = ["127.0.0.1:110"]\n')
    assert [door.spec.name for door in said.services] == ["pop3", "smtp_reports"]
    assert [door.spec.name for door in asked("[bridge]\n").services] == ["smtp_reports"]


def test_a_carrier_is_there_where_its_options_switch_it_on(asked: Callable[..., Doors]) -> None:
    assert asked("[bridge]\n").carriers == []
    [(spec, options)] = asked('[bridge]\nhost = "127.0.0.1:25"\n').carriers
    assert (spec.name, spec.via(options)) == ("smtp", "127.0.0.1:25")


def test_an_unknown_key_of_listen_has_its_line_and_the_nearest_word(asked: Callable[..., Doors]) -> None:
    [error] = said(asked, '[listen]\npop33 = ["127.0.0.1:110"]\n')
    assert error.startswith("forwarder.toml:4")
    assert 'did you mean "pop3"' in error
    [error] = said(asked, '[listen]\nrnaq = ["127.0.0.1:110"]\n')
    assert 'did you mean "rnaqp"' in error


def test_where_no_plugin_offers_services_a_key_for_one_is_unknown_all_the_same(asked: Callable[..., Doors]) -> None:
    """Both bridges are disabled, or not installed: a door that silently stays shut is a lost mail."""
    [error] = said(asked, '[listen]\npop3 = ["127.0.0.1:110"]\n', services={})
    assert error.startswith("forwarder.toml:4") and "no plugin offers this service" in error


def test_who_asks_for_carriers_alone_hears_nothing_of_services(asked: Callable[..., Doors]) -> None:
    found = asked('[listen]\npop3 = ["127.0.0.1:110"]\n[bridge]\nhost = "h:25"\n', None)
    assert (found.services, len(found.carriers)) == ([], 1)


@pytest.mark.parametrize(
    ("table", "line", "word"),
    [
        ("most = 11", 6, "is too much for"),
        ('most = "many"', 6, "bridge.most"),
        ("mots = 3", 6, 'did you mean "most"'),
    ],
)
def test_a_mistake_in_a_table_that_several_share_is_said_once_with_its_line(
    asked: Callable[..., Doors], table: str, line: int, word: str
) -> None:
    text = f'[listen]\nlmtp = ["127.0.0.1:24"]\n[bridge]\n{table}\nhost = "h:25"\n'
    errors = [error for error in said(asked, text) if word in error]
    assert len(errors) == 1
    assert errors[0].startswith(f"forwarder.toml:{line}")
    assert "bridge." in errors[0]


def test_all_mistakes_are_said_at_once(asked: Callable[..., Doors]) -> None:
    errors = said(asked, '[listen]\nlmtp = ["127.0.0.1:24"]\nnonsense = ["127.0.0.1:1"]\n[bridge]\nmost = 11\n')
    assert sorted(error.split(" ")[0].rstrip(":") for error in errors) == ["forwarder.toml:5", "forwarder.toml:7"]


def test_a_tls_door_without_a_certificate_is_an_error(asked: Callable[..., Doors], folder: Path) -> None:
    [error] = said(asked, '[listen]\npop3_tls = ["0.0.0.0:995"]\n')
    assert error.startswith("forwarder.toml:4") and "needs a certificate" in error
    tls = '[[tls]]\ndomains = ["pobox.example"]\ncertificate = "c.pem"\nkey = "k.pem"\n'
    assert asked(f'[listen]\npop3_tls = ["0.0.0.0:995"]\n{tls}').services[0].spec.name == "pop3_tls"


def test_paths_in_objections_are_seen_from_the_folder(asked: Callable[..., Doors], folder: Path) -> None:
    [error] = said(asked, '[bridge]\nhost = "h:25"\nmost = 11\n')
    assert str(folder / "x") in error


def test_a_group_that_this_machine_does_not_have_is_told_where_it_stands(asked: Callable[..., Doors]) -> None:
    text = '[listen]\nlmtp = ["unix:/run/x/lmtp"]\n[bridge]\ngroup = "no-such-group"\n'
    assert said(asked, text) == ['forwarder.toml:6: bridge.group: there is no group "no-such-group" on this machine']
    assert asked(text.replace("unix:/run/x/lmtp", "127.0.0.1:24")).services, "nobody needs it"
