"""The words of a dialogue and the PDUs they stand for; README.md beside this file is their dictionary.

The same words say a PDU and describe one that must come: what is said is made of them entire, what is heard must hold
at least what they name. A key that has no octets yet gets those that are heard.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from typing import Any

from . import pdu

STORE = "toby@store.example"
ABSENT = object()
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Value = tuple[str, Any]


class Mismatch(Exception):
    """What was heard is not what the words say."""


class Sometime(int):
    """A time that is said; what is heard in its place may be another."""


class Unheard:
    """A key to be learnt from what is heard."""

    def __init__(self, name: str) -> None:
        self.name = name


def seconds(text: str) -> int:
    match = re.fullmatch(r"([+-]?\d+)([smhd]?)", text)
    if match is None:
        raise ValueError(f"{text!r} is no time")
    return int(match[1]) * _TIMES.get(match[2], 1)


def hexed(text: str) -> bytes:
    """Hexadecimal; `ab*1000` is ab a thousand times."""
    return bytes.fromhex(re.sub(r"([0-9a-f]{2})\*(\d+)", lambda match: match[1] * int(match[2]), text))


def mailbox(text: str) -> dict[str, Any]:
    local, _, domain = text.rpartition("@")
    return {"localpart": local, "domain": domain.split(".")}


class Words:
    """The words of one talk: it has keys of its own, and began at some time."""

    def __init__(self, talk: str, began: int) -> None:
        self._talk = talk
        self._began = began
        self._keys: dict[str, bytes] = {}
        self._cursors: dict[bytes, bytes] = {}

    # -- PDUs

    def say(self, protocol: str, text: str, *, server: bool) -> bytes:
        if server:
            return self._response(protocol, text)
        if text.startswith("notify"):
            return self._batch(text)
        arm, value = self._command(protocol, text)
        return pdu.command(protocol, arm, value)

    def check(self, protocol: str, octets: bytes, text: str, *, server: bool) -> None:
        """server: it is a command of the daemon's to a server of ours. Raises Mismatch."""
        if server:
            self._check_command(protocol, octets, text)
        else:
            self._check_response(protocol, octets, text)

    def _check_command(self, protocol: str, octets: bytes, text: str) -> None:
        if text.startswith("notify"):
            octets, text = self._cut_unknown(octets, text)
            value: Any = {"notifications": [self._item(item) for item in _items(text)[0]]}
            expected = ("notify", value)
        else:
            expected = self._command(protocol, text)
        self._compare(("command", {"commanddata": expected}), pdu.decode(protocol, octets), "")

    def _cut_unknown(self, octets: bytes, text: str) -> tuple[bytes, str]:
        """Elements that asn1tools cannot see past must stand there, and are cut out."""
        unknown = [hexed(word) for word in re.findall(r" carrying (\S+)", text)]
        if not unknown:
            return octets, text
        rest = []
        for notification in pdu.notifications(octets):
            elements = pdu.parts(pdu.inside(notification))
            for element in unknown:
                if element not in elements:
                    raise Mismatch(f"{element.hex()} is not in {notification.hex()}")
            tags = [element[0] & 0x1F for element in elements]
            if tags != sorted(tags):
                raise Mismatch(f"elements out of order: {tags}")
            rest.append(pdu.tlv(0x30, b"".join(element for element in elements if element not in unknown)))
        return pdu.notify(rest), re.sub(r" carrying \S+", "", text)

    def _check_response(self, protocol: str, octets: bytes, text: str) -> None:
        if text.startswith("error "):
            wanted = pdu.error(protocol, text.removeprefix("error ").strip())
            if octets != wanted:
                raise Mismatch(f"not that: {pdu.decode(protocol, octets)}")
            return
        heard = pdu.decode(protocol, octets)
        expected = {"forceabort": False, "status": "noerror", "responsedata": self._answer(protocol, text)}
        self._compare(("response", expected), heard, "")
        self._learn_cursors(heard)

    def _learn_cursors(self, heard: Any) -> None:
        arm, value = heard[1]["responsedata"]
        if arm in ("peek", "retrieveandclear"):
            for item in value["notifications"]:
                if "cursor" in item:
                    self._cursors[item["notification"]["identifier"]] = item["cursor"]

    def _compare(self, wanted: Any, heard: Any, where: str) -> None:
        if isinstance(wanted, Unheard):
            self._keys[wanted.name] = heard
        elif isinstance(wanted, Sometime):
            return
        elif isinstance(wanted, dict) and isinstance(heard, dict):
            for name, value in wanted.items():
                if value is ABSENT:
                    if name in heard:
                        raise Mismatch(f"{where}.{name} should not be there, it is {heard[name]}")
                elif name not in heard:
                    raise Mismatch(f"{where}.{name} is missing")
                else:
                    self._compare(value, heard[name], f"{where}.{name}")
        elif isinstance(wanted, list | tuple) and isinstance(heard, list | tuple):
            if len(wanted) != len(heard):
                raise Mismatch(f"{where}: {len(heard)} instead of {len(wanted)}: {heard}")
            for index, (one, other) in enumerate(zip(wanted, heard, strict=True)):
                self._compare(one, other, f"{where}[{index}]")
        elif wanted != heard:
            raise Mismatch(f"{where} is {_shown(heard)}, not {_shown(wanted)}")

    # -- notifications

    def _batch(self, text: str) -> bytes:
        items, features, name = _items(text)
        notifications = []
        for item in items:
            value = self._item(f"{item} from {STORE}" if " from " not in item else item)
            unknown = [hexed(word) for word in re.findall(r" carrying (\S+)", f" {item}")]
            octets = pdu.SPEC.encode("Notification", value)
            notifications.append(pdu.with_elements(octets, unknown) if unknown else octets)
        return pdu.notify(notifications, pdu.capabilities(*features, name=name) if features else b"")

    def _item(self, text: str) -> dict[str, Any]:
        words = shlex.split(text)
        value: dict[str, Any] = {"recipient": mailbox(words.pop(0)), "identifier": None}
        while words:
            name = words.pop(0)
            self._element(value, name, words.pop(0))
        assert value["identifier"] is not None, f"no key in {text!r}"
        return value

    def _element(self, value: dict[str, Any], name: str, word: str) -> None:
        match name:
            case "key":
                value["identifier"] = self.key(word)
            case "from":
                value["sender"], _, store = word.rpartition("@")
                value["storeclear"] = _location(store)
            case "tls":
                value["storessl"] = _location(word)
            case "size" | "hops":
                value[name] = int(word)
            case "original" | "claimedfrom":
                value[name] = mailbox(word)
            case "token":
                value["token"] = hexed(word)
            case "digest":
                value["digest"] = {"algorithm": 1, "value": hexed(word)}
            case "expires":
                value["expires"] = self._began + seconds(word)
            case "trace":
                value["trace"] = [_hop(hop, self._began) for hop in word.split(",")]
            case "origin":
                sender, _, store = word.rpartition("@")
                value["origin"] = {"store": _location(store), "sender": sender}
            case "without":
                value[word] = ABSENT
            case "carrying":
                hexed(word)
            case _:
                raise ValueError(f"{name!r} is no element of a notification")

    def key(self, word: str) -> Any:
        """1: the talk's own first key; 0x...: these octets; a name: what was heard under it, or is to be."""
        if word.startswith("0x"):
            return hexed(word[2:])
        if word.isdigit():
            return hashlib.sha256(f"{self._talk} {word}".encode()).digest()[:16]
        return self._keys.get(word) or Unheard(word)

    # -- commands

    def _command(self, protocol: str, text: str) -> Value:
        verb, *words = shlex.split(text)
        match verb, words:
            case "login", [account, *rest]:
                return "authenticate", {"account": account, "password": rest[0] if rest else "secret"}
            case "peek", [most, *rest]:
                after = {"after": self._cursors[self.key(rest[2])]} if rest else {}
                return "peek", {"max": int(most), **after}
            case "clear", ["key", *names]:
                return "clear", {"cursors": [self._cursors[self.key(name)] for name in names]}
            case "retrieve-and-clear", rest:
                return "retrieveandclear", {"max": int(rest[0])} if rest else {}
            case "retrieve", ["key", name, view, offset, length]:
                where = {"offset": int(offset), "length": int(length)}
                return "retrieve", {"identifier": self.key(name), "type": view, **where}
            case (("silence" | "unpin" | "size" | "track" | "cancel"), ["key", name]):
                return "querysize" if verb == "size" else verb, {"identifier": self.key(name)}
            case "split", ["key", name, "into", count]:
                return "split", {"identifier": self.key(name), "count": int(count)}
            case "scan", [name, "since", begin]:
                return "scanlist", {"listname": name, "begintime": int(begin)}
            case "envelope", [names, "lifetime", lifetime, *lists]:
                to = [mailbox(name) for name in names.split(",") if name != "nobody"]
                value: dict[str, Any] = {"recipients": to, "lifetime": seconds(lifetime)}
                return "submitenvelope", value | ({"lists": lists[1].split(",")} if lists else {})
            case "chunk", [data, "at", offset, *last]:
                chunk = {"islast": last == ["last"], "offset": int(offset), "data": _octets(data)}
                return "submitmsgchunk", chunk
        raise ValueError(f"{text!r} is no command of {protocol}")

    # -- responses

    def _response(self, protocol: str, text: str) -> bytes:
        if text.startswith("error "):
            return pdu.error(protocol, text.removeprefix("error ").strip())
        arm, value = self._answer(protocol, text)
        value = {name: element for name, element in value.items() if element is not ABSENT}
        if "results" in value:
            value["capabilities"] = {"version": 1, "features": ["results"]}
        return pdu.response(protocol, arm, value)

    def _answer(self, protocol: str, text: str) -> Value:
        verb, *words = shlex.split(text)
        match verb, words:
            case "noerror", []:
                return "notify", {"results": ABSENT, "capabilities": ABSENT} if protocol == "rnasp" else {}
            case "received", []:
                return "notify", {}
            case "capable", features:
                return "notify", {"capabilities": {"version": 1, "features": features}, "results": ABSENT}
            case "results", _:
                items = text.removeprefix("results").split(";")
                return "notify", {"results": [_result(item) for item in items if item.strip()]}
            case "logged", ["in"]:
                return "authenticate", {}
            case (("shown" | "handed"), names):
                return "peek" if verb == "shown" else "retrieveandclear", self._list(names)
            case (("silenced" | "unpinned" | "cleared" | "cancelled"), []):
                return {"silenced": "silence", "unpinned": "unpin", "cleared": "clear"}.get(verb, "cancel"), {}
            case "data", [data, *rest]:
                return "retrieve", {"data": _octets(data)} | ({"size": int(rest[1])} if rest else {})
            case "size", [size]:
                return "querysize", {"size": int(size)}
            case "listed", names:
                return "scanlist", {"messages": [self.key(name) for name in names]}
            case "envelope", statuses:
                denied = "submissionaccessdenied"
                return "submitenvelope", {"recipients": [denied if s == "denied" else s for s in statuses]}
            case "keys", names:
                keys = [self.key(name) for name in names]
                return "submitmsgchunk", {"identifiers": keys} if keys else {"identifiers": ABSENT}
            case "delivery", [told, read, pinned, *rest]:
                return "track", {"delivery": _delivery(told, read, pinned, rest)}
        raise ValueError(f"{text!r} is no answer of {protocol}")

    def _list(self, words: list[str]) -> dict[str, Any]:
        items = [{"notification": {"identifier": self.key(word)}} for word in words if word != "more"]
        return {"notifications": items} | ({"more": True} if "more" in words else {})


def _items(text: str) -> tuple[list[str], list[str], str | None]:
    """The notifications, the features and the notifier's name of "notify A; B can results redirect as mx.example"."""
    match = re.fullmatch(r"notify(.*?)(?: can ([\w ]+?))?(?: as (\S+))?", text)
    assert match is not None, text
    items, features, name = match.groups()
    return [item.strip() for item in items.split(";") if item.strip()], (features or "").split(), name


def _result(text: str) -> dict[str, Any]:
    code, *words = shlex.split(text)
    value: dict[str, Any] = {"code": int(code)}
    redirects: list[dict[str, Any]] = []
    while words:
        name, word = words.pop(0), words.pop(0)
        match name:
            case "retry":
                value["retryafter"] = seconds(word)
            case "promise":
                value["retransmit"] = seconds(word)
            case "to":
                redirects.append({"mailbox": mailbox(word)})
            case "kind":
                redirects[-1]["kind"] = int(word)
            case "ttl":
                redirects[-1]["ttl"] = seconds(word)
            case "token":
                redirects[-1]["token"] = hexed(word)
            case "without":
                value[{"promise": "retransmit", "retry": "retryafter"}.get(word, word)] = ABSENT
            case _:
                raise ValueError(f"{name!r} is nothing a result has")
    return value | ({"redirects": redirects} if redirects else {})


def _delivery(told: str, read: str, pinned: str, rest: list[str]) -> dict[str, Any]:
    value: dict[str, Any] = {"notificationstatus": told, "read": read, "pinned": pinned == "pinned"}
    to = [mailbox(word) for word in rest if "@" in word]
    codes = [int(word) for word in rest if word.isdigit()]
    return value | ({"redirectedto": to} if to else {}) | ({"lastcode": codes[0]} if codes else {})


def _location(text: str) -> Value:
    if text == "none":
        return "literals", []
    if ":" not in text:
        return "domain", text.split(".")
    address, _, port = text.rpartition(":")
    octets = bytes(map(int, address.split(".")))
    return "literals", [{"address": ("version4", octets), "port": int(port)}]


def _hop(text: str, at: int) -> dict[str, Any]:
    """BY or BY:HOW."""
    by, _, how = text.partition(":")
    return {"by": by.split("."), "at": Sometime(at)} | ({"how": int(how)} if how else {})


def _octets(text: str) -> bytes:
    return text.replace("\\r", "\r").replace("\\n", "\n").encode()


def _shown(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
