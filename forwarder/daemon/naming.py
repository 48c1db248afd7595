"""Which store names are ours, and which of them our own notifications bear."""

from __future__ import annotations

from collections.abc import Iterable

from forwarder.config.addresses import AddressFiles
from forwarder.config.reading import Host


class Naming:
    """Asked at each use: domains come and go while we run."""

    def __init__(self, addresses: AddressFiles, node: str) -> None:
        self._addresses = addresses
        self._node = node

    def ours(self, store: str) -> bool:
        """Whether a notification's store is this daemon's own: a hosted domain, what one names as its store, we."""
        if store == self._node or self._addresses.hosted(store):
            return True
        return any(host.domain is not None and host.domain.store == store for host in self._hosts())

    def store_of(self, sender: str) -> str:
        """The store that notifications of this sender name: its domain's, if it is an address of a hosted one;
        else that of the domain this node's name belongs to; else of the first."""
        hosts = {host.domain.name: host.domain.store for host in self._hosts() if host.domain is not None}
        candidates = [sender.rpartition("@")[2], *self._above(self._node)]
        for name in candidates:
            if name in hosts:
                return hosts[name]
        return hosts[min(hosts)] if hosts else self._node

    def _above(self, name: str) -> list[str]:
        labels = name.split(".")
        return [".".join(labels[begin:]) for begin in range(len(labels))]

    def _hosts(self) -> Iterable[Host]:
        return self._addresses.domains.values()
