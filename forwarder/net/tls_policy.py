"""When a service may be used without TLS: `[network]` require_tls and clear_fallback."""

from __future__ import annotations

from typing import NamedTuple


class TlsPolicy(NamedTuple):
    """`[network]` require_tls and clear_fallback: domains with all below them, or "*"."""

    require: frozenset[str] = frozenset()
    fall_back: frozenset[str] = frozenset()

    def requires(self, domain: str) -> bool:
        return _within(domain, self.require)

    def falls_back(self, domain: str) -> bool:
        return _within(domain, self.fall_back) and not self.requires(domain)


def _within(domain: str, those: frozenset[str]) -> bool:
    if not those or "*" in those:
        return bool(those)
    labels = domain.split(".")
    return any(".".join(labels[at:]) in those for at in range(len(labels)))
