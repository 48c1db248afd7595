"""Thunderbird without a window, driven by Marionette: a profile with one POP3 account, told to fetch its mail."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

PREFERENCES = """
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.accountmanager.accounts", "account1");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.identity.id1.useremail", "brian@pobox.example");
user_pref("mail.server.server1.type", "pop3");
user_pref("mail.server.server1.hostname", "127.0.0.1");
user_pref("mail.server.server1.port", {port});
user_pref("mail.server.server1.userName", "brian");
user_pref("mail.server.server1.name", "brian");
user_pref("mail.server.server1.authMethod", 3);
user_pref("mail.server.server1.socketType", 0);
user_pref("mail.server.server1.check_new_mail", false);
user_pref("mail.server.server1.login_at_startup", false);
user_pref("mail.server.server1.leave_on_server", {keep});
user_pref("mail.server.server1.directory-rel", "[ProfD]Mail/127.0.0.1");
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("mail.rights.version", 1);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
user_pref("network.dns.disabled", true);
user_pref("marionette.port", 0);
"""
REMEMBER = """
const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
login.init("mailbox://127.0.0.1", null, "mailbox://127.0.0.1", "brian", "right", "", "");
await Services.logins.addLoginAsync(login);
"""
FETCH = """
const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.accounts.map(a => a.incomingServer).find(s => s?.type == "pop3");
const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
const status = await new Promise(tell => MailServices.pop3.GetNewMail(null, {
  QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
  OnStartRunningUrl() {},
  OnStopRunningUrl(url, status) { tell(status); },
}, inbox, server.QueryInterface(Ci.nsIPop3IncomingServer)));
return {status, subjects: [...inbox.messages].map(message => message.subject)};
"""
RUN = "const tell = arguments[0]; (async () => {%s})().then(tell, error => tell({error: String(error)}));"
_LISTENS = re.compile(rb"Listening on port (\d+)")


class Thunderbird:
    """inbox: its mbox file."""

    def __init__(self, stream: trio.SocketStream, inbox: Path) -> None:
        self._stream = stream
        self._in = bytearray()
        self._number = 0
        self.inbox = inbox

    async def fetch(self) -> tuple[bool, list[str]]:
        """Whether all went well for it, and the subjects of all that it has."""
        said = await self.performs(FETCH)
        return said["status"] == 0, said["subjects"]

    async def performs(self, script: str) -> Any:
        said = await self.ask("WebDriver:ExecuteAsyncScript", script=RUN % script, args=[], sandbox="system")
        assert "error" not in (said["value"] or {}), said
        return said["value"]

    async def ask(self, command: str, **parameters: Any) -> Any:
        self._number += 1
        text = json.dumps([0, self._number, command, parameters]).encode()
        await self._stream.send_all(b"%d:%s" % (len(text), text))
        _, _, error, result = await self.hear()
        assert error is None, error
        return result

    async def hear(self) -> Any:
        while (colon := self._in.find(b":")) < 0 or len(self._in) <= colon + int(self._in[:colon]):
            octets = await self._stream.receive_some(65536)
            assert octets, "Thunderbird is gone"
            self._in += octets
        end = colon + 1 + int(self._in[:colon])
        text = bytes(self._in[colon + 1 : end])
        del self._in[:end]
        return json.loads(text)


@asynccontextmanager
async def started(program: str, folder: Path, port: int, *, keep: bool) -> AsyncIterator[Thunderbird]:
    """With an account at this port, its password remembered. keep: mail stays where it is."""
    profile = folder / "profile"
    profile.mkdir()
    (profile / "user.js").write_text(PREFERENCES.format(port=port, keep=str(keep).lower()))
    command = [program, "--headless", "--marionette", "-remote-allow-system-access", "--no-remote"]
    environment = {**os.environ, "HOME": str(folder), "MOZ_HEADLESS": "1"}
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            arguments = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "check": False, "env": environment}
            run = partial(trio.run_process, [*command, "--profile", str(profile)], **arguments)
            process = await nursery.start(run)
            stream = await trio.open_tcp_stream("127.0.0.1", await _listens(process.stdout))
            nursery.start_soon(_drain, process.stdout)
            made = Thunderbird(stream, profile / "Mail" / "127.0.0.1" / "Inbox")
            async with stream:
                await made.hear()
                await made.ask("WebDriver:NewSession")
                await made.ask("Marionette:SetContext", value="chrome")
                await made.performs(REMEMBER)
                yield made
            nursery.cancel_scope.cancel()


async def _listens(said: trio.abc.ReceiveStream) -> int:
    octets = b""
    while not (found := _LISTENS.search(octets)):
        piece = await said.receive_some(65536)
        assert piece, octets[-2000:]
        octets += piece
    return int(found[1])


async def _drain(said: trio.abc.ReceiveStream) -> None:
    async for _ in said:
        pass
