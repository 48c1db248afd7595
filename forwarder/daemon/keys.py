"""Our stores' own keys inside the daemon: who signs now, and our own records known without asking the DNS."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from forwarder.config.domains import Domain
from forwarder.config.keys import SigningKeys
from forwarder.plugin import Texts
from forwarder.ports import Clock
from forwarder.signature import SigningKey


class OwnKeys:
    """What `store/sending` signs with."""

    def __init__(self, keys: SigningKeys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def signing(self, store: str) -> SigningKey | None:
        return self._keys.signing(store, self._now())

    def record(self, name: str) -> str | None:
        """The text of a record of ours."""
        _, _, store = name.partition("._im2000-key.")
        return self._keys.records(store, self._now()).get(name) if store else None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


class TextsOrOwn:
    """plugin.Texts: calls to ourselves run in process (protocol 4), the rest asks the DNS."""

    def __init__(self, own: OwnKeys, texts: Texts) -> None:
        self._own = own
        self._texts = texts

    def known(self, name: str, /) -> tuple[str, ...] | None:
        own = self._own.record(name)
        return self._texts.known(name) if own is None else (own,)

    async def find(self, name: str, /) -> tuple[str, ...]:
        own = self._own.record(name)
        return await self._texts.find(name) if own is None else (own,)


def records_of(keys: SigningKeys, domain: Domain, node: str, now: datetime) -> Mapping[str, str]:
    """The key records that belong to a hosted domain: of its own name, of the store it names, of this node in it."""
    stores = {domain.name, domain.store} | ({node} if node.endswith("." + domain.name) else set())
    return {owner: text for store in sorted(stores) for owner, text in keys.records(store, now).items()}
