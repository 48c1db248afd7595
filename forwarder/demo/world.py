"""The world: a sender's node, the forwarder, a recipients' node, and four people. Made only by verbs.

Each node serves its own zones by its own DNS listener and asks the others' zones there.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from forwarder.demo.daemons import Daemons
from forwarder.demo.letter import letter
from forwarder.demo.places import Place, place
from forwarder.demo.shell import CRLF, Shell
from forwarder.demo.ways import ACME, ISP, POBOX, STAFF, WAYS

SENDER, FORWARDER, RECIPIENTS = "acme", "pobox", "isp"
"""The nodes' folders."""
NAMES = {SENDER: f"store.{ACME}", FORWARDER: f"mx1.{POBOX}", RECIPIENTS: f"mx.{ISP}"}
DOMAINS = {SENDER: (ACME,), FORWARDER: (POBOX,), RECIPIENTS: (ISP, STAFF)}
LETTER, PASSWORD = "letter.eml", "password"


class World:
    """The nodes; `daemons` are their processes."""

    def __init__(self, shell: Shell, *, usual_ports: bool) -> None:
        self._shell = shell
        taken: set[tuple[str, int]] = set()
        self.places: Mapping[str, Place] = {
            node: place(number, usual=usual_ports, taken=taken) for number, node in enumerate(NAMES, 1)
        }
        self.daemons = Daemons(shell, NAMES)

    def make_nodes(self) -> None:
        run = self._shell.run
        for node, (first, *more) in DOMAINS.items():
            run("init", node, "--name", NAMES[node], "--domain", first, *self._sets(node))
            run("domain", "set", first, "dns.mode=serve", "--config", node)
            for domain in more:
                run("domain", "add", domain, "dns.mode=serve", "--config", node)

    def make_accounts(self) -> None:
        self._shell.write(PASSWORD, secrets.token_hex(8))
        for node, may, people in (
            (SENDER, "originate", ("alice",)),
            (FORWARDER, "read", ("brian",)),
            (RECIPIENTS, "read", ("brian", "bob", "freda")),
        ):
            for person in people:
                self._shell.run("account", "add", person, "--may", may, "--config", node, stdin=PASSWORD)

    def make_addresses(self) -> None:
        for way in WAYS:
            self._shell.run("add", way.address, *way.says, "--config", FORWARDER)
        for person, domain in (("brian", ISP), ("bob", STAFF), ("freda", STAFF)):
            says = ("strategy=subscribe", f"readers={person}")
            self._shell.run("add", f"{person}@{domain}", *says, "--config", RECIPIENTS)
        for node in NAMES:
            self._shell.run("check", "--config", node)

    def make_people(self) -> None:
        """Who submits where, who reads what where; and the letter."""
        forwarder, recipients = self.places[FORWARDER], self.places[RECIPIENTS]
        self._person("alice", store(self.places[SENDER]))
        brian = [agent(forwarder, "brian"), agent(recipients, "brian"), list_of(forwarder, f"hold@{POBOX}", "brian")]
        self._person("brian", *brian)
        self._person("bob", agent(recipients, "bob"))
        self._person("freda", agent(recipients, "freda"))
        self._shell.write(LETTER, letter(f"alice@{ACME}", [way.address for way in WAYS]), by=CRLF)

    def _sets(self, node: str) -> list[str]:
        here = self.places[node]
        values = [f'listen.{service}=["{here.at(service)}"]' for service in here.ports]
        zones = self._zones({name for name in NAMES if name != node})
        values += [f"resolve.zones={zones}", 'network.allow=["127.0.0.0/8"]']
        return [word for value in values for word in ("--set", value)]

    def _zones(self, nodes: set[str]) -> str:
        """Whom to ask for their zones, as a TOML table."""
        pairs = [
            f'"{domain}"=["{self.places[node].at("dns")}"]'
            for node, domains in DOMAINS.items()
            if node in nodes
            for domain in domains
        ]
        return f"{{{', '.join(pairs)}}}"

    def _person(self, name: str, *places: str) -> None:
        """Readers find stores as anybody does; loopback is allowed to them because it is all there is here."""
        network = f'resolve.zones = {self._zones({SENDER, FORWARDER})}\nnetwork.allow = ["127.0.0.0/8"]\n'
        self._shell.write(f"{name}.toml", network + "".join(places))


def store(place: Place) -> str:
    return f'[store]\nmsoap = "{place.at("msoap")}"\n{_login("alice")}'


def agent(place: Place, account: str) -> str:
    return f'[[agent]]\nrnaqp = "{place.at("rnaqp")}"\n{_login(account)}'


def list_of(place: Place, name: str, account: str) -> str:
    return f'[[list]]\nmsrap = "{place.at("msrap")}"\nname = "{name}"\n{_login(account)}'


def _login(account: str) -> str:
    return f'account = "{account}"\npassword_file = "{PASSWORD}"\n'
