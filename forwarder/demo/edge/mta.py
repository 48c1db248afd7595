"""A Postfix of the demo's own: configuration, queue and log lie in one folder, and it listens on the loopback alone.

Always told by `-c` where its configuration is, so it is never the machine's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from forwarder.cli.errors import No
from forwarder.demo.daemons import PortTaken, last_line
from forwarder.demo.shell import Shell
from forwarder.demo.stage import undisturbed

SERVICES = "services"
"""The file of what every Postfix has in its master.cf."""

MASTER = """\
pickup    unix n - n 60  1 pickup
cleanup   unix n - n -   0 cleanup
qmgr      unix n - n 300 1 qmgr
rewrite   unix - - n -   - trivial-rewrite
bounce    unix - - n -   0 bounce
defer     unix - - n -   0 bounce
trace     unix - - n -   0 bounce
showq     unix n - n -   - showq
error     unix - - n -   - error
retry     unix - - n -   - error
smtp      unix - - n -   - smtp
virtual   unix - n n -   - virtual
proxymap  unix - - n -   - proxymap
anvil     unix - - n -   1 anvil
scache    unix - - n -   1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

MAIN = """\
queue_directory = {here}/{folder}/queue
data_directory = {here}/{folder}/data
maillog_file = {here}/{folder}/log
maillog_file_prefixes = {here}
myhostname = {name}
mydestination =
mynetworks =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_host_lookup = native
default_transport = smtp:[127.0.0.1]:{others}
"""


class Mta:
    """One of them. folder: also what it is called; name: who it says it is."""

    def __init__(self, shell: Shell, folder: str, name: str, port: int) -> None:
        self.folder, self.name, self.port = folder, name, port
        self._shell = shell

    @property
    def etc(self) -> str:
        """As a shell reads it: Postfix wants a path from the root."""
        return f"$PWD/{self.folder}/etc"

    @property
    def log(self) -> str:
        return f"{self.folder}/log"

    def make(self, others: int, more: Iterable[str] = ()) -> None:
        """others: the port of the only other MTA there is; more: lines of main.cf."""
        folder = self.folder
        self._shell.command(f"install -d {folder}/etc {folder}/queue && install -d -o postfix -m 700 {folder}/data")
        main = MAIN.format(here=Path.cwd(), folder=folder, name=self.name, others=others)
        self._shell.write(f"{folder}/etc/main.cf", "\n".join([main.rstrip(), *more]))
        smtpd = f"127.0.0.1:{self.port} inet n - n - - smtpd"
        self._shell.command(f"echo '{smtpd}' | cat - {SERVICES} > {folder}/etc/master.cf")

    def start(self) -> None:
        """Returns when it listens. Raises PortTaken, No."""
        with undisturbed():
            try:
                self._shell.command(f"postfix -c {self.etc} start")
            except No as error:
                last = last_line(self.log)
                if "in use" in last:
                    raise PortTaken(self.name) from None
                raise No(f"{error} {last}") from None

    def stop(self) -> None:
        """Whether it runs or not; returns when it does not."""
        if Path(self.folder, "queue", "pid", "master.pid").exists():
            self._shell.quietly(f"postfix -c {self.etc} stop")

    def says_of(self, recipient: str) -> str:
        """A line that prints what became of mail to a recipient, by its log."""
        return f"sed -n 's|.* to=<{recipient}>.* status=||p' {self.log}"

    def mailq(self) -> str:
        """A line that prints what it still has."""
        return f"postqueue -c {self.etc} -p"
