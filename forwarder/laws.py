"""The laws of a plan: what the core refuses to perform, said in one sentence for the plugin's author.

One place for them: the guard asks here before every deed, `check_strategy` asks here in an author's tests. A plan has
at least one step; Tell, Refuse, Defer and Decline stand alone (a Tell may stand beside Deposit or Resend); codes are of
their class, times have a zone, and everything that grows has a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from forwarder.model import Mailbox
from forwarder.plugin import Decline, Defer, Deposit, Plan, Pull, Refuse, Resend, Step, Tell, Work

MAX_TARGETS = 1000  # of a plan, readers included
MAX_REDIRECTS = 10  # of one Tell (protocol 5.2)
MAX_MEMORY = 64 << 10  # octets, of an address and strategy; of a Work's payload too
MAX_TEXT = 500  # characters of a note, a reason


def unlawful(plan: object) -> str | None:
    """What keeps the core from performing this plan, in a sentence; None: nothing. About 0.5 us for one step."""
    if type(plan) is not Plan:
        return f"gave {_named(plan)}, not a Plan"
    steps = plan.steps
    if type(steps) is not tuple or not steps:
        return "a plan needs a tuple of at least one step: without one the notification would be lost"
    for step in steps:
        check = _STEP_LAWS.get(type(step))
        wrong = check(step) if check else f"{_named(step)} is no step"
        if wrong:
            return wrong
    if len(steps) > 1 and (wrong := _unlawful_together(steps)):
        return wrong
    if plan.note.__class__ is not str or len(plan.note) > MAX_TEXT:
        return f"the note must be a text of at most {MAX_TEXT} characters"
    return _unlawful_memory(plan.remember) if plan.remember else None


def _named(thing: object) -> str:
    return f"a {type(thing).__name__}"


def _unlawful_together(steps: tuple[Step, ...]) -> str | None:
    alone = [step for step in steps if isinstance(step, Tell | Refuse | Defer | Decline)]
    rest = [step for step in steps if not isinstance(step, Tell | Refuse | Defer | Decline)]
    beside = len(alone) == 1 and isinstance(alone[0], Tell) and all(isinstance(s, Deposit | Resend) for s in rest)
    if alone and not beside:
        return f"{type(alone[0]).__name__} stands alone (only a Tell may stand beside Deposit or Resend)"
    count = sum(len(getattr(step, "to", ())) + len(getattr(step, "readers", ())) for step in steps)
    return f"{count} targets, at most {MAX_TARGETS}" if max(count, len(steps)) > MAX_TARGETS else None


def _unlawful_memory(remember: object) -> str | None:
    if not isinstance(remember, Mapping):
        return f"remember is {_named(remember)}, not a mapping"
    if not all(isinstance(k, str) and isinstance(v, bytes) for k, v in remember.items()):
        return "remember must map texts to bytes"
    octets = sum(len(key) + len(value) for key, value in remember.items())
    return f"remember holds {octets} octets, at most {MAX_MEMORY}" if octets > MAX_MEMORY else None


def _unlawful_targets(to: object, name: str, most: int = MAX_TARGETS) -> str | None:
    if type(to) is not tuple or not to:
        return f"{name}: `to` must be a tuple of at least one mailbox"
    if len(to) > most:
        return f"{name}: {len(to)} targets, at most {most}"
    for mailbox in to:
        if type(mailbox) is not Mailbox:
            return f"{name}: `to` holds {_named(mailbox)}, not a Mailbox"
    return None


def _unlawful_readers(readers: object, name: str) -> str | None:
    if type(readers) is not tuple or not readers:
        return f"{name}: `readers` must be a tuple of at least one account"
    if len(readers) > MAX_TARGETS:
        return f"{name}: {len(readers)} readers, at most {MAX_TARGETS}"
    return None if all(isinstance(reader, str) for reader in readers) else f"{name}: `readers` must be texts"


def _unlawful_instant(at: object, name: str) -> str | None:
    if at is None or (isinstance(at, datetime) and at.tzinfo is not None):
        return None
    return f"{name}: the time must be a datetime with its zone (UTC)"


def _unlawful_span(span: object, name: str) -> str | None:
    return None if span is None or isinstance(span, timedelta) else f"{name} is {_named(span)}, not a timedelta"


def _unlawful_resend(step: Resend) -> str | None:
    return _unlawful_targets(step.to, "Resend")


def _unlawful_deposit(step: Deposit) -> str | None:
    return _unlawful_readers(step.readers, "Deposit")


def _unlawful_pull(step: Pull) -> str | None:
    if step.unpin not in ("after_copy", "after_readers"):
        return f'Pull: unpin is "after_copy" or "after_readers", not {step.unpin!r}'
    if type(step.max_size) is not int or step.max_size < 0:
        return "Pull: max_size must be a number of octets"
    if not step.to and not step.readers:
        return "Pull: needs `to` or `readers`"
    wrong = _unlawful_targets(step.to, "Pull") if step.to else None
    wrong = wrong or (_unlawful_readers(step.readers, "Pull") if step.readers else None)
    return wrong or _unlawful_span(step.keep, "Pull: keep")


def _unlawful_work(step: Work) -> str | None:
    if not isinstance(step.name, str) or not step.name or len(step.name) > MAX_TEXT:
        return f"Work: the name is a text of 1 to {MAX_TEXT} characters"
    if not isinstance(step.payload, bytes) or len(step.payload) > MAX_MEMORY:
        return f"Work: the payload is at most {MAX_MEMORY} octets of bytes"
    if type(step.may) is not tuple or len(step.may) > MAX_TARGETS:
        return f"Work: `may` is a tuple of at most {MAX_TARGETS} steps"
    return _unlawful_instant(step.at, "Work")


def _unlawful_tell(step: Tell) -> str | None:
    if step.tokens and (type(step.tokens) is not tuple or len(step.tokens) != len(step.to)):
        return "Tell: tokens are a tuple, one for each of `to`"
    if not all(isinstance(token, bytes) and len(token) <= 64 for token in step.tokens):
        return "Tell: a token is at most 64 octets of bytes"
    return _unlawful_targets(step.to, "Tell", MAX_REDIRECTS) or _unlawful_span(step.ttl, "Tell: ttl")


def _unlawful_refuse(step: Refuse) -> str | None:
    if type(step.code) is not int or step.code >> 4 != 3:
        return f"Refuse: code {step.code!r} is not of class 3 (48 to 63)"
    return None if isinstance(step.text, str) and len(step.text) <= MAX_TEXT else "Refuse: the text is too long"


def _unlawful_defer(step: Defer) -> str | None:
    if type(step.code) is not int or step.code >> 4 != 2:
        return f"Defer: code {step.code!r} is not of class 2 (32 to 47)"
    return _unlawful_instant(step.until, "Defer")


def _unlawful_decline(step: Decline) -> str | None:
    return None if isinstance(step.why, str) and len(step.why) <= MAX_TEXT else "Decline: why is a short text"


_STEP_LAWS: Mapping[type, Callable[[Any], str | None]] = {
    Resend: _unlawful_resend,
    Deposit: _unlawful_deposit,
    Pull: _unlawful_pull,
    Work: _unlawful_work,
    Tell: _unlawful_tell,
    Refuse: _unlawful_refuse,
    Defer: _unlawful_defer,
    Decline: _unlawful_decline,
}
