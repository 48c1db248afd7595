"""Postfix at the edge: what `init --postfix` writes into a new folder, and the lines for Postfix (docs/postfix.md).

Sockets lie in a folder of Postfix's queue directory and are named from there, so chrooted services find them too.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from forwarder.config.accounts import hash_password
from forwarder.config.disk import write_new
from forwarder.config.names import account_file
from forwarder.config.tables import UnixPath
from forwarder.model import Endpoint

SECRETS_FILE = "srs.secret"
GATEWAY = "smtpgateway"
SECRET_OCTETS = 24
_BEFORE_LISTEN, _BEFORE_BRIDGE = "# rnasp_tls", "[plugins]"
_SENDERS = re.compile(r"# waiting_per_sender = .*\n# per_sender_per_day = .*\n# per_store_per_day = .*\n")

LISTEN = """\
lmtp = ["unix:{queue}/forwarder/lmtp"]         # the world's mail, from Postfix
submission = ["unix:{queue}/forwarder/submit"] # our users' mail, from Postfix
postfix_map = ["unix:{queue}/forwarder/map"]   # Postfix asks: who exists, who may send as whom
postfix_auth = ["unix:{queue}/forwarder/auth"] # Postfix asks: is this password right
pop3 = ["127.0.0.1:7110"]                      # people read
# pop3_tls = ["0.0.0.0:7995"]                  # the same with TLS, once [[tls]] has a certificate
"""

BRIDGE = """\
[bridge]                               # today's mail; `forwarder postfix` prints what Postfix must be told
group = "postfix"                      # may open the Unix sockets: whoever does can bring mail in

[bridge.smtp_in]
account = "smtpgateway"                # the account that owns incoming mail; a table gives each domain its own
max_size = "30MiB"                     # of one message
# sessions = 10                        # at once
# answer_wait = "2s"                   # so long a refusal by the target can still become a 5xx
# lifetime = "1y"                      # of mail that nobody reads; then its sender hears of it
# received = 40                        # more Received lines than this: a loop

[bridge.smtp_out]
smarthost = "127.0.0.1:10025"          # the same Postfix: takes what goes to targets without an agent
# retry = "5d"                         # so long a target is tried
# settle = "1h"                        # so long a report is waited for before a native message is un-pinned

[bridge.returns]
domain = "srs.{domain}"                # where reports come back: its MX is this Postfix
secret_file = "srs.secret"             # 0600, one a line, the newest first
# days = 21                            # how long a return path is good
# hash = 8

[bridge.submission]
# account = "sender"                   # who owns the envelope sender; or one account for all

"""


LIMITS = """\
waiting_per_sender = 10000             # of all the world's mail the gateway is the sender, our store the store
per_sender_per_day = 10000
per_store_per_day = 10000
"""


def bridged(node: str, domain: str, queue: str) -> str:
    """The text of a new node file, with Postfix at its edge. queue: Postfix's queue_directory."""
    for mark, text in ((_BEFORE_LISTEN, LISTEN), (_BEFORE_BRIDGE, BRIDGE)):
        assert node.count(mark) == 1
        node = node.replace(mark, text.format(domain=domain, queue=queue) + mark)
    assert len(_SENDERS.findall(node)) == 1
    return _SENDERS.sub(LIMITS, node)


def write_gateway(folder: Path) -> None:
    """What the bridge needs beside the node file: a secret for return paths, an account that owns what comes in.

    Nobody logs in as that account; its password is chosen at random and forgotten. Raises OSError.
    """
    write_new(folder / SECRETS_FILE, secrets.token_urlsafe(SECRET_OCTETS) + "\n", 0o600)
    password = hash_password(secrets.token_urlsafe(SECRET_OCTETS))
    note = "owns the mail that comes in by SMTP; nobody logs in"
    text = f'password = "{password}"\nmay = ["originate"]\nnote = "{note}"\n'
    write_new(account_file(folder, GATEWAY), text)


# -- Postfix's side


class Apart(ValueError):
    """Sockets that lie in no common queue directory."""


class Edge(NamedTuple):
    """What the lines are made of. domains: hosted here; returns: of return paths, "" = none; smarthost: "" = none.

    by_sender: the envelope sender decides which account submits.
    """

    domains: Sequence[str]
    returns: str
    lmtp: Endpoint | UnixPath
    map: Endpoint | UnixPath
    submission: Endpoint | UnixPath | None
    auth: Endpoint | UnixPath | None
    max_size: int
    sessions: int
    smarthost: str
    by_sender: bool = True

    @property
    def here(self) -> Sequence[str]:
        """All domains whose mail comes to us."""
        return list(dict.fromkeys([*self.domains, *([self.returns] if self.returns else [])]))


MAIN = """\
# Sockets are named from queue_directory{queue}.
compatibility_level = 3.6
# Hosted by forwarder{returns}. Written out, not asked for: Postfix must know it while forwarder is down.
# None of them may stand in mydestination or virtual_*_domains too.
relay_domains = {domains}
relay_transport = im2000:{lmtp}
# One recipient at a time: each hears its own answer, and the transport's flags can name it.
im2000_destination_recipient_limit = 1
# Who exists here is asked at RCPT, whoever sends: nobody unknown is taken now and bounced, to a forged sender, later.
smtpd_restriction_classes = im2000_known
im2000_known = check_recipient_access socketmap:{map}:access
im2000_here = {here}
smtpd_recipient_restrictions = check_recipient_access $im2000_here, permit_mynetworks, reject_unauth_destination
# No second mail smuggled in behind a bare line feed.
smtpd_forbid_bare_newline = normalize
message_size_limit = {max_size}
# Octets stay as they came, or signatures (DKIM) break. Return-Path is what the last MTA writes.
message_drop_headers = return-path
disable_mime_output_conversion = yes
"""

MASTER = """\
# The world's mail to forwarder. flags=D ends loops across worlds; "-o" must stand before "flags=".
im2000     unix  -  -  n  -  {sessions}  lmtp -o lmtp_line_length_limit=0 flags=DR
"""

SMARTHOST = """\
# Mail from forwarder to the world. Bare line feeds are forbidden here too: senders of IM2000 are strangers.
{smarthost} inet n - n - - smtpd -o syslog_name=postfix/forwarder -o mynetworks={loopback}
  -o smtpd_recipient_restrictions=permit_mynetworks,reject -o smtpd_forbid_bare_newline_exclusions=
  -o local_header_rewrite_clients= -o content_filter=
"""

SUBMISSION = """\
# Our users' mail to forwarder: passwords and senders are checked with it, Bcc is dropped on the way.
im2000sub  unix  -  -  n  -  {sessions}  lmtp -o lmtp_line_length_limit=0
subclean   unix  n  -  n  -  0  cleanup -o message_drop_headers=bcc,resent-bcc,return-path
submission inet  n  -  n  -  -  smtpd -o syslog_name=postfix/submission -o smtpd_tls_auth_only=yes
  -o smtpd_sasl_auth_enable=yes -o smtpd_sasl_type=dovecot -o smtpd_sasl_path={auth}
  -o smtpd_sender_login_maps=socketmap:{map}:logins
  -o smtpd_sender_restrictions={null}reject_sender_login_mismatch
  -o smtpd_recipient_restrictions=check_recipient_access,$im2000_here,permit_sasl_authenticated,reject
  -o local_header_rewrite_clients=permit_sasl_authenticated
  -o content_filter=im2000sub:{submission} -o cleanup_service_name=subclean
"""


NO_NULL = "check_sender_access,inline:{<>=REJECT},"
"""Who sends with the null sender has no account by it: refused later, it would be lost without a report."""


def main_cf(edge: Edge) -> str:
    """Lines for main.cf. Raises Apart."""
    queue = _queue(place for place in (edge.lmtp, edge.map, edge.submission, edge.auth) if place)
    return MAIN.format(
        queue=f", which is {queue}" if queue else "",
        returns=", and where reports come back to" if edge.returns else "",
        domains=", ".join(edge.here),
        here=_known(edge),
        lmtp=_named(edge.lmtp),
        map=_named(edge.map),
        max_size=edge.max_size,
    )


def master_cf(edge: Edge) -> str:
    """Lines for master.cf; a smarthost that is not on this machine is no service here."""
    text = MASTER.format(sessions=edge.sessions)
    host = edge.smarthost.rpartition(":")[0]
    if host and _is_loopback(host.strip("[]")):
        text += SMARTHOST.format(smarthost=edge.smarthost, loopback="[::1]/128" if ":" in host else "127.0.0.0/8")
    if edge.submission and edge.auth:
        text += SUBMISSION.format(
            sessions=max(1, edge.sessions // 2),
            auth=_named(edge.auth).removeprefix("unix:"),
            map=_named(edge.map),
            null=NO_NULL if edge.by_sender else "",
            submission=_named(edge.submission),
        )
    return text


def _known(edge: Edge) -> str:
    """A table in which our domains, and no others, ask us: mail for others goes on while we are down."""
    return f"inline:{{{','.join(f'{domain}=im2000_known' for domain in edge.here)}}}"


def _named(place: Endpoint | UnixPath) -> str:
    if isinstance(place, UnixPath):
        path = Path(place.path)
        return f"unix:{path.parent.name}/{path.name}"
    return f"inet:{place}"


def _queue(places: Iterable[Endpoint | UnixPath]) -> str:
    queues = {str(Path(place.path).parent.parent) for place in places if isinstance(place, UnixPath)}
    if len(queues) > 1:
        raise Apart(f"sockets in {', '.join(sorted(queues))}: put them in one folder of Postfix's queue directory")
    return queues.pop() if queues else ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
