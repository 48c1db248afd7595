"""A small world for one reader: an agent, a list and stores that answer commands in memory, and may lose answers."""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from forwarder.cli import main
from forwarder.config.settings import Networking, Resolve
from forwarder.config.tables import HostPort
from forwarder.model import ClientLocation, ContentDigest, Endpoint, Hop, Mailbox, Notification, ServiceLocation
from forwarder.plugin import PeerError
from forwarder.ports import Agent
from forwarder.reader.calls import Calls
from forwarder.reader.desk import Desk
from forwarder.reader.me import AgentAccount, ListAccount, Me, StoreAccount
from forwarder.reader.notebook import Notebook
from forwarder.testing import MemoryTexts
from forwarder.wire import msoap, msrap, rnaqp
from forwarder.wire.frames import Frames, frame
from forwarder.wire.notification import decode_notification, encode_notification
from forwarder.wire.rnasp import Status
from forwarder.wire.session import MSOAP, MSRAP, RNAQP, Protocol

OK = Status.noerror


@dataclass
class World:
    """bodies: what the stores hold, by key. waiting: what the agent holds, by cursor. heard: all commands."""

    bodies: dict[bytes, bytes] = field(default_factory=dict)
    waiting: dict[bytes, Notification] = field(default_factory=dict)
    listed: list[bytes] = field(default_factory=list)
    silenced: list[bytes] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    lose: list[type] = field(default_factory=list)
    """Answers to lose: the deed is done, then the session ends."""
    legacy: bool = False
    """Whether the agent is of 2004; so are the stores."""
    down: bool = False
    short: int = 1 << 20
    sizes: bool = True
    """Whether the store says the size of the whole in each answer."""
    clock: float = 1_800_000_000.0
    texts: MemoryTexts = field(default_factory=MemoryTexts)

    def put(self, body: bytes, *, shared: bool = False, digest: bool = True, **more: Any) -> Notification:
        """A message at a store, and its notification at the agent."""
        key = hashlib.sha256(b"key" + body).digest()[:16]
        notification = Notification(
            ServiceLocation("store.example"),
            None,
            Mailbox("brian", "pobox.example"),
            key,
            "toby",
            len(body),
            digest=ContentDigest(1, hashlib.sha256(body).digest()) if digest else None,
            trace=(Hop("fwd.example", b"12345678", 1, 2),) if shared else (),
            **more,
        )
        self.bodies[key] = body
        self.waiting[len(self.waiting).to_bytes(4, "big")] = decode_notification(encode_notification(notification))
        return notification

    def rnaqp(self, command: Any) -> Any:
        response = rnaqp.Response
        if isinstance(command, rnaqp.Authenticate):
            good = command == ("brian", "secret")
            return response(False, OK, rnaqp.Authenticated()) if good else response(False, Status.errornotauthenticated)
        if self.legacy and not isinstance(command, rnaqp.RetrieveAndClear):
            return response(True, Status.errormalformedpdu)
        where = ClientLocation("192.0.2.1", 7101)
        items = [
            rnaqp.Item(one, where, 1_700_000_000, None if self.legacy else cursor)
            for cursor, one in sorted(self.waiting.items())
        ]
        if isinstance(command, rnaqp.Peek):
            later = [item for item in items if command.after is None or item.cursor > command.after]  # type: ignore[operator]
            page = tuple(later[:2])
            return response(False, OK, rnaqp.Peeked(page, len(later) > len(page)))
        if isinstance(command, rnaqp.Clear):
            for cursor in command.cursors:
                self.waiting.pop(cursor, None)
            return response(False, OK, rnaqp.Cleared())
        self.waiting.clear()
        return response(False, OK, rnaqp.RetrievedAndCleared(tuple(items)))

    def msrap(self, command: Any) -> Any:
        response = msrap.Response
        if isinstance(command, rnaqp.Authenticate):
            return response(False, OK, rnaqp.Authenticated())
        if isinstance(command, msrap.ScanList):
            return response(False, OK, msrap.Scanned(tuple(self.listed), int(self.clock)))
        if self.legacy and isinstance(command, msrap.QuerySize):
            return response(True, Status.errorunexpectedcommand)
        body = self.bodies.get(command.identifier)
        if body is None:
            return response(False, Status.errornosuchmessage)
        if isinstance(command, msrap.Silence):
            self.silenced.append(command.identifier)
            return response(False, OK, msrap.Silenced())
        if isinstance(command, msrap.UnPin):
            del self.bodies[command.identifier]
            return response(False, OK, msrap.UnPinned())
        if isinstance(command, msrap.QuerySize):
            return response(False, OK, msrap.Size(len(body)))
        view = body if command.view is msrap.View.all else b""
        data = view[command.offset : command.offset + min(command.length, self.short)]
        return response(False, OK, msrap.Retrieved(data, len(view) if self.sizes else None))

    def msoap(self, command: Any) -> Any:
        response, status = msoap.Response, msoap.Status.noerror
        if isinstance(command, rnaqp.Authenticate):
            return response(False, status, rnaqp.Authenticated())
        if isinstance(command, msoap.SubmitEnvelope):
            self.envelope = command
            judged = [msoap.SubmissionStatus(mailbox.localpart == "nobody") for mailbox in command.recipients]
            return response(False, status, msoap.EnvelopeAnswer(tuple(judged), ()))
        if isinstance(command, msoap.SubmitMsgChunk):
            self.bodies[b"draft"] = (self.bodies.get(b"draft", b"") if command.offset else b"") + command.data
            taken = [one for one in self.envelope.recipients if one.localpart != "nobody"]
            keys = tuple(hashlib.sha256(str(one).encode()).digest()[:16] for one in taken) if command.islast else ()
            return response(False, status, msoap.ChunkAnswer(keys))
        if isinstance(command, msoap.Track):
            found = msoap.DeliveryStatus(msoap.NotificationStatus.notifying, msoap.ReadStatus.unread, True)
            return response(False, status, msoap.Tracked(found))
        return response(False, status, msoap.Cancelled())

    async def connect(self, agent: Agent, service: str) -> Talking:
        if self.down:
            raise PeerError(f"{service} is down")
        return Talking(self, service)

    async def place(self, location: ServiceLocation, service: str) -> Agent:
        return Agent((Endpoint("192.0.2.2", 7102),), str(location.domain))

    def count(self, kind: type) -> int:
        return sum(isinstance(command, kind) for command in self.heard)


@dataclass
class Talking:
    """A session with the world."""

    world: World
    service: str
    over: bool = False

    async def ask(self, command: Any) -> Any:
        assert not self.over, "asked in a session that has ended"
        self.world.heard.append(command)
        answer = getattr(self.world, self.service)(command)
        if type(command) in self.world.lose:
            self.world.lose.remove(type(command))
            self.over = True
            raise PeerError("the session ended before the answer")
        self.over = answer.abort
        return answer

    async def aclose(self) -> None:
        self.over = True


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def person(tmp_path: Path) -> Me:
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    here = HostPort("127.0.0.1", 7103)
    return Me(
        tmp_path / "me.toml",
        tmp_path / "data" / "reader.db",
        StoreAccount(msoap=here, account="brian", password_file=str(secret)),
        (AgentAccount(rnaqp=here, account="brian", password_file=str(secret)),),
        (ListAccount(msrap=here, name="minutes@pobox.example", account="brian", password_file=str(secret)),),
        Resolve(),
        Networking(),
    )


def _anywhere(address: str) -> bool:
    return True


@pytest.fixture
def desk(world: World, person: Me) -> Iterator[Desk]:
    calls = Calls(world.connect, world.connect, world, lambda: world.clock, person.password, _anywhere, world.texts)  # type: ignore[arg-type]
    notebook = Notebook(person.notebook)
    yield Desk(person, notebook, calls)
    notebook.close()


class Loopback:
    """The world behind real sockets, served by a thread of its own until the test ends."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ports: dict[str, int] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,), daemon=True)

    def __enter__(self) -> Loopback:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self._scope:
            async with trio.open_nursery() as nursery:
                for protocol in (RNAQP, MSRAP, MSOAP):
                    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
                    self.ports[protocol.name] = listener.socket.getsockname()[1]
                    nursery.start_soon(trio.serve_listeners, partial(self._converse, protocol), [listener])
                self._ready.set()

    async def _converse(self, protocol: Protocol, stream: trio.SocketStream) -> None:
        frames, talk = Frames(protocol.command_limit), Talking(self.world, protocol.name)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, PeerError):
            async with stream:
                async for data in stream:
                    frames.receive_data(bytes(data))
                    while (pdu := frames.next_pdu()) is not None:
                        answer = await talk.ask(protocol.decode_command(pdu))
                        await stream.send_all(frame(protocol.encode_response(answer)))
                        if talk.over:
                            return


@pytest.fixture
def loopback(world: World) -> Iterator[Loopback]:
    with Loopback(world) as served:
        yield served


@pytest.fixture
def mine(loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A me.toml for the served world, at its usual place."""
    for variable, name in (("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data")):
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.delenv("FORWARDER_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text("secret\n")
    file = tmp_path / "config" / "forwarder" / "me.toml"
    file.parent.mkdir(parents=True)
    login = f'account = "brian"\npassword_file = "{tmp_path}/password"'
    file.write_text(f"""
[store]
msoap = "127.0.0.1:{loopback.ports["msoap"]}"
{login}
[[agent]]
rnaqp = "127.0.0.1:{loopback.ports["rnaqp"]}"
{login}
[[list]]
msrap = "127.0.0.1:{loopback.ports["msrap"]}"
name = "minutes@pobox.example"
{login}
[resolve.static]
"store.example" = {{ msrap = "127.0.0.1:{loopback.ports["msrap"]}" }}
[network]
allow = ["127.0.0.0/8"]
""")
    return file


@pytest.fixture
def type_(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """type_("read", "done", "1") -> (exit code, stdout, stderr), stdout as octets."""

    def type_(*arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        capfdbinary.readouterr()
        code = main(arguments)
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return type_
