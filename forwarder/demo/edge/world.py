"""Two mail systems of today, and our node behind one of them. Ann writes from world.example to pobox.example.

ann, sendmail -> Postfix "world" -> SMTP -> Postfix "mx" -> LMTP -> forwarder -> POP3 -> fetchmail, brian and freda
        carol <- Postfix "world" <- SMTP <- Postfix "mx" <- SMTP <- forwarder
"""

from __future__ import annotations

import pwd
import secrets
from email.utils import format_datetime, localtime
from pathlib import Path

from forwarder.demo.daemons import Daemons
from forwarder.demo.edge.mta import MASTER, SERVICES, Mta
from forwarder.demo.places import LOOPBACK, quiet_port
from forwarder.demo.shell import Shell
from forwarder.demo.stage import undisturbed

NODE, MX, WORLD = "pobox", "mx", "world"
"""The folders: our node's, and each Postfix's."""
POBOX, OUTSIDE = "pobox.example", "world.example"
NAME = f"mx1.{POBOX}"
ANN, CAROL, DAVE = (f"{person}@{OUTSIDE}" for person in ("ann", "carol", "dave"))
FULL = "552 5.2.2 Mailbox full"
"""What dave's mail system says."""
READERS = ("brian", "freda")
LETTER, PASSWORD = "letter.eml", "password"

TEXT = f"""\
From: Ann <{ANN}>
To: you at {POBOX} <brian@{POBOX}>
Subject: Old mail, new mail
Date: {format_datetime(localtime())}
Message-ID: <letter@{OUTSIDE}>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Liebe Freunde, viele Grüße.

.
.. and dots, blanks at the end \x20
From here on only lines that gateways like to change.

"""

ADDRESSES = (
    ("brian", "strategy=subscribe", "readers=brian"),
    ("freda", "strategy=subscribe", "readers=freda"),
    ("sales", "strategy=subscribe", "kind=role", "readers=brian,freda"),
    ("staff", "strategy=pull_repush", "kind=group", f"to=brian@{POBOX},freda@{POBOX}"),
    ("carol", f"to={CAROL}"),
    ("dave", f"to={DAVE}"),
)

FETCHMAIL = """\
set no syslog
set invisible
set pidfile "{here}/fetchmail.pid"
poll localhost service {port} protocol pop3 no dns
  user "{person}" password "{password}" fetchall no rewrite sslproto ''
"""


class EdgeWorld:
    """All of it, made by commands; `stop` ends every process."""

    def __init__(self, shell: Shell) -> None:
        taken: set[int] = set()
        self._shell = shell
        self._smarthost, self._pop3 = quiet_port(taken), quiet_port(taken)
        self.mx = Mta(shell, MX, NAME, quiet_port(taken))
        self.world = Mta(shell, WORLD, f"mx.{OUTSIDE}", quiet_port(taken))
        self.daemons = Daemons(shell, {NODE: NAME})

    def make_node(self) -> None:
        queue = str(Path.cwd() / MX / "queue")
        options = ("--postfix", "--queue", queue, *self._sets())
        self._shell.run("init", NODE, "--name", NAME, "--domain", POBOX, *options)
        self._shell.write(PASSWORD, secrets.token_hex(8))
        self._shell.command(f"chmod 600 {PASSWORD}")
        for person in READERS:
            self._shell.run("account", "add", person, "--may", "read", "--config", NODE, stdin=PASSWORD)
        for local, *says in ADDRESSES:
            self._shell.run("add", f"{local}@{POBOX}", *says, "--config", NODE)
        self._shell.run("check", "--config", NODE)

    def make_mx(self) -> None:
        """As `init --postfix` says."""
        self._shell.write(SERVICES, MASTER)
        self.mx.make(self.world.port)
        for file in ("main.cf", "master.cf"):
            self._shell.run("postfix", file, "--config", NODE, onto=f"{MX}/etc/{file}")
        self._shell.command(f"install -d -o root -g postfix -m 2750 {MX}/queue/forwarder")

    def make_world(self) -> None:
        """Ann's and carol's mail system; dave has an address there too, but no room left."""
        nobody = pwd.getpwnam("nobody")
        boxes = ", ".join(f"{mailbox}={mailbox.partition('@')[0]}/" for mailbox in (ANN, CAROL, DAVE))
        more = (
            "compatibility_level = 3.6",
            "disable_mime_output_conversion = yes",
            f"virtual_mailbox_domains = {OUTSIDE}",
            f"virtual_mailbox_base = {Path.cwd() / WORLD / 'mail'}",
            f"virtual_mailbox_maps = inline:{{{boxes}}}",
            f"virtual_uid_maps = static:{nobody.pw_uid}",
            f"virtual_gid_maps = static:{nobody.pw_gid}",
            "smtpd_recipient_restrictions = reject_unauth_destination,",
            f"  check_recipient_access inline:{{{{{DAVE}={FULL}}}}}",
        )
        self.world.make(self.mx.port, more)
        self._shell.command(f"install -d -o nobody {WORLD}/mail")

    def make_people(self) -> None:
        self._shell.write(LETTER, TEXT)
        password = Path(PASSWORD).read_text().strip()
        for person in READERS:
            says = FETCHMAIL.format(here=Path.cwd(), port=self._pop3, person=person, password=password)
            self._shell.write(f"{person}.rc", says)
        self._shell.command(f"chmod 600 {' '.join(f'{person}.rc' for person in READERS)}")

    def start(self) -> None:
        """Raises PortTaken, No."""
        self.daemons.start()
        self.mx.start()
        self.world.start()

    def stop(self) -> None:
        with undisturbed():
            self.world.stop()
            self.mx.stop()
            self.daemons.stop()

    @property
    def smarthost(self) -> str:
        return f"{LOOPBACK}:{self._smarthost}"

    def _sets(self) -> list[str]:
        """IM2000's own services are of no use here; world.example is no domain of the DNS."""
        ours = [f'listen.{service}=["{LOOPBACK}:0"]' for service in ("rnasp", "msrap", "rnaqp", "msoap")]
        values = [
            *ours,
            *(f"listen.{service}=[]" for service in ("dns", "submission", "postfix_auth")),
            f'listen.pop3=["{LOOPBACK}:{self._pop3}"]',
            f'bridge.smtp_out.smarthost="{self.smarthost}"',
            f'resolve.via={{"{OUTSIDE}"="smtp"}}',
        ]
        return [word for value in values for word in ("--set", value)]
