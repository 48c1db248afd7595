"""Looking up addresses: who wins, what is trusted how long, and what a broken file may never become."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from forwarder.config.addresses import AddressFiles
from forwarder.config.lines import ConfigError, ConfigErrors, read_text
from forwarder.config.settings import Settings
from forwarder.config.sweep import sweep
from forwarder.model import Mailbox, Route
from forwarder.plugin import PeerError
from forwarder.ports import Broken, Found, Nobody, NotOurs

Make = Callable[[], AddressFiles]
Write = Callable[[str, str], Path]

BRIAN = Mailbox("brian", "pobox.example")


async def winner(files: AddressFiles, localpart: str) -> Route:
    mailbox = Mailbox(localpart, "pobox.example")
    answer = (await files.read([mailbox]))[mailbox]
    assert isinstance(answer, Found), answer
    assert files.look_up(mailbox) == answer
    return answer.route


def age(path: Path) -> None:
    """A file that has stood for a minute: its stamp can be trusted."""
    past = time.time_ns() - 60_000_000_000
    os.utime(path, ns=(past, past))


async def test_an_address_file_becomes_a_route(addresses: Make, write: Write) -> None:
    write("brian", '# why\nto = ["brian@isp.example"]\nnote = "moved out"\n[rewrite_resend]\nstateless = true\n')
    route = await winner(addresses(), "brian")
    assert (route.entry, route.strategy, route.kind, route.matched) == (
        "brian@pobox.example", "rewrite_resend", "person", "exact",
    )  # fmt: skip
    assert route.to == (Mailbox("brian", "isp.example"),)
    assert route.options["rewrite_resend"].stateless is True
    assert (route.file, route.lines["to"], route.lines["rewrite_resend.stateless"]) == (
        "addresses/pobox.example/brian.toml", 2, 5,
    )  # fmt: skip
    assert route.limits == {"targets": 50, "waiting": 10000, "waiting_per_sender": 200, "per_sender_per_day": 1000}


async def test_the_strategy_and_the_fallback_get_their_options(addresses: Make, write: Write) -> None:
    write(
        "brian",
        'strategy = "redirect"\nto = ["b@isp.example"]\nfallback = "pull_repush"\n'
        '[redirect]\nttl = "2d"\n[pull_hold]\n',
    )
    route = await winner(addresses(), "brian")
    assert set(route.options) == {"redirect", "pull_repush"}
    assert route.options["redirect"].ttl.days == 2


async def test_exact_beats_tag_beats_pattern_beats_catch_all(addresses: Make, write: Write) -> None:
    write(
        "domains/pobox.example.toml",
        'catch_all = { to = ["lost@isp.example"] }\n'
        '[[pattern]]\nmatch = "sales*"\nto = ["short@isp.example"]\n'
        '[[pattern]]\nmatch = "sales-*"\nto = ["{1}@staff.example"]\n',
    )
    write("sales", 'to = ["plain@isp.example"]\n')
    write("sales+de", 'to = ["german@isp.example"]\n')
    files = addresses()
    won = {name: await winner(files, name) for name in ("sales+de", "sales+fr", "sales-uk", "salesman", "nobody")}
    assert {name: (route.entry, route.matched, route.tag) for name, route in won.items()} == {
        "sales+de": ("sales+de@pobox.example", "exact", ""),
        "sales+fr": ("sales@pobox.example", "tag", "fr"),
        "sales-uk": ("sales-*@pobox.example", "pattern", ""),
        "salesman": ("sales*@pobox.example", "pattern", ""),
        "nobody": ("@pobox.example", "catch_all", ""),
    }
    assert won["sales-uk"].to == (Mailbox("uk", "staff.example"),)
    assert won["sales-uk"].address == Mailbox("sales-uk", "pobox.example")
    assert won["sales+fr"].address == Mailbox("sales", "pobox.example")
    assert won["nobody"].address == Mailbox("nobody", "pobox.example")


async def test_spellings_of_one_mailbox_share_its_file(addresses: Make, write: Write) -> None:
    write("jos%C3%A9", 'to = ["j@isp.example"]\n')
    route = await winner(addresses(), "JOSE\u0301")
    assert route.address.localpart == "josé"


async def test_nobody_and_not_ours(addresses: Make, write: Write) -> None:
    files = addresses()
    stranger = Mailbox("brian", "isp.example")
    assert await files.read([BRIAN, stranger]) == {BRIAN: Nobody(tell=True), stranger: NotOurs()}
    assert (files.look_up(BRIAN), files.look_up(stranger)) == (Nobody(tell=True), NotOurs())
    assert (files.hosted("pobox.example"), files.hosted("isp.example")) == (True, False)
    write("domains/pobox.example.toml", 'unknown = "accept"\n')
    files.reload()
    assert (await files.read([BRIAN]))[BRIAN] == Nobody(tell=False)


async def test_a_name_too_long_for_a_file_is_nobody(addresses: Make) -> None:
    long = Mailbox("x" * 246, "pobox.example")
    assert (await addresses().read([long]))[long] == Nobody(tell=True)


async def test_memory_is_trusted_for_recheck_then_asked_again(addresses: Make, write: Write, clock: Any) -> None:
    age(write("brian", 'to = ["b@isp.example"]\n'))
    files = addresses()
    assert files.look_up(BRIAN) is None
    first = await winner(files, "brian")
    write("brian", 'to = ["c@isp.example"]\n')
    clock.now += 0.9
    assert files.look_up(BRIAN) == Found(first)
    clock.now += 0.2
    assert files.look_up(BRIAN) is None
    before = files.generation
    assert (await winner(files, "brian")).to == (Mailbox("c", "isp.example"),)
    assert files.generation > before


async def test_nothing_changed_keeps_the_very_route_and_generation(addresses: Make, write: Write, clock: Any) -> None:
    age(write("brian", 'to = ["b@isp.example"]\n'))
    files = addresses()
    first, generation = await winner(files, "brian"), files.generation
    clock.now += 5
    assert await winner(files, "brian") is first
    assert files.generation == generation


async def test_a_new_file_ends_a_nobody_and_a_removed_one_begins_it(addresses: Make, write: Write, clock: Any) -> None:
    files = addresses()
    await files.read([BRIAN])
    path, generation = write("brian", 'to = ["b@isp.example"]\n'), files.generation
    clock.now += 2
    await winner(files, "brian")
    assert files.generation > generation
    path.unlink()
    generation = files.generation
    clock.now += 2
    assert (await files.read([BRIAN]))[BRIAN] == Nobody(tell=True)
    assert files.generation > generation


async def test_a_verb_counts_at_once(addresses: Make, write: Write) -> None:
    files = addresses()
    await files.read([BRIAN])
    write("brian", 'to = ["b@isp.example"]\n')
    files.changed(Mailbox("Brian", "pobox.example"))
    assert files.look_up(BRIAN) is None
    await winner(files, "brian")


async def test_a_clock_set_back_trusts_nothing(addresses: Make, write: Write, clock: Any) -> None:
    write("brian", 'to = ["b@isp.example"]\n')
    files = addresses()
    await winner(files, "brian")
    clock.now -= 3600
    assert files.look_up(BRIAN) is None


async def test_a_broken_file_keeps_the_last_good_version(addresses: Make, write: Write, clock: Any) -> None:
    write("brian", 'to = ["b@isp.example"]\n')
    files = addresses()
    good = await winner(files, "brian")
    write("brian", 'to = ["b@isp.example"\n')
    clock.now += 2
    assert await winner(files, "brian") is good
    [(file, error)] = files.broken.items()
    assert file == "addresses/pobox.example/brian.toml"
    assert str(error).startswith("addresses/pobox.example/brian.toml:")
    write("brian", 'to = ["b@isp.example"]\n')
    clock.now += 2
    await winner(files, "brian")
    assert files.broken == {}


async def test_a_file_broken_from_the_first_is_broken_not_nobody(addresses: Make, write: Write, clock: Any) -> None:
    write("brian", '\nto = ["brian"]\n')
    files = addresses()
    answer = (await files.read([BRIAN]))[BRIAN]
    assert answer == Broken("addresses/pobox.example/brian.toml", 2, "to: 'brian' is no address: it has no @")
    assert files.look_up(BRIAN) == answer
    with pytest.raises(PeerError):
        await files.entry("brian@pobox.example")


@pytest.mark.parametrize("how", ["folder", "link", "fifo", "octets", "huge"])
async def test_only_no_such_file_means_nobody(addresses: Make, write: Write, folder: Path, how: str) -> None:
    path = folder / "addresses/pobox.example/brian.toml"
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("nowhere.toml")
    elif how == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(b'note = "\xff"' if how == "octets" else b"#" * (1 << 21))
    answer = (await addresses().read([BRIAN]))[BRIAN]
    assert isinstance(answer, Broken), answer


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="nowhere to count open files")
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, Path.touch])
def test_what_is_no_file_takes_no_descriptor_with_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Whoever writes to such an address has it looked at once a second."""
    make(path := tmp_path / "anna.toml")
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with contextlib.suppress(ConfigErrors, OSError):
            read_text(path, "anna.toml")
    assert len(os.listdir("/proc/self/fd")) == len(before)


async def test_a_vanished_folder_keeps_its_entries(addresses: Make, write: Write, folder: Path, clock: Any) -> None:
    write("brian", 'to = ["b@isp.example"]\n')
    files = addresses()
    good = await winner(files, "brian")
    (folder / "addresses").rename(folder / "elsewhere")
    clock.now += 2
    assert await winner(files, "brian") == good
    other = Mailbox("other", "pobox.example")
    assert isinstance((await files.read([other]))[other], Broken)


async def test_a_vanished_folder_of_domains_keeps_the_domains(addresses: Make, folder: Path, clock: Any) -> None:
    files = addresses()
    (folder / "domains").rename(folder / "elsewhere")
    clock.now += 2
    assert (await files.read([BRIAN]))[BRIAN] == Nobody(tell=True)
    files.reload()
    assert files.hosted("pobox.example")
    assert "domains" in files.broken


async def test_a_broken_domain_file_never_lets_go_of_the_domain(addresses: Make, write: Write, clock: Any) -> None:
    write("brian", 'to = ["b@isp.example"]\n')
    files = addresses()
    good = await winner(files, "brian")
    write("domains/pobox.example.toml", "[[pattern]]\n")
    clock.now += 2
    assert await winner(files, "brian") == good
    assert "domains/pobox.example.toml" in files.broken
    fresh = addresses()
    assert fresh.hosted("pobox.example")
    assert isinstance((await fresh.read([BRIAN]))[BRIAN], Broken)
    assert isinstance(fresh.look_up(BRIAN), Broken)


async def test_domains_come_and_go_within_recheck(addresses: Make, write: Write, clock: Any) -> None:
    files = addresses()
    new = Mailbox("anna", "new.example")
    assert files.look_up(new) == NotOurs()
    path = write("domains/new.example.toml", 'catch_all = { to = ["a@isp.example"] }\n')
    clock.now += 2
    assert files.look_up(new) is None
    assert isinstance((await files.read([new]))[new], Found)
    path.unlink()
    clock.now += 2
    assert (await files.read([new]))[new] == NotOurs()


async def test_domain_defaults_stand_behind_every_entry(addresses: Make, write: Write, clock: Any) -> None:
    write(
        "domains/pobox.example.toml",
        '[defaults]\nstrategy = "pull_hold"\nreaders = ["archive"]\nlimits = { waiting = 5 }\npull_hold.keep = "7y"\n',
    )
    write("brian", 'limits = { targets = 2 }\n[pull_hold]\nmax_size = "1MiB"\n')
    files = addresses()
    route = await winner(files, "brian")
    assert (route.strategy, route.readers) == ("pull_hold", ("archive",))
    assert (route.limits["waiting"], route.limits["targets"]) == (5, 2)
    assert (route.options["pull_hold"].keep.days, route.options["pull_hold"].max_size) == (7 * 365, 1 << 20)
    write("domains/pobox.example.toml", '[defaults]\nstrategy = "subscribe"\nreaders = ["anna"]\n')
    clock.now += 2
    assert (await winner(files, "brian")).readers == ("anna",)


async def test_entries_are_found_by_their_names(addresses: Make, write: Write) -> None:
    write(
        "domains/pobox.example.toml",
        'catch_all = { to = ["lost@isp.example"] }\n[[pattern]]\nmatch = "s-*"\nto = ["{1}@isp.example"]\n',
    )
    write("brian", 'to = ["b@isp.example"]\n')
    files = addresses()
    for name in ("brian@pobox.example", "s-*@pobox.example", "@pobox.example"):
        route = await files.entry(name)
        assert route is not None
        assert route.entry == name
    for name in ("brian+tag@pobox.example", "nobody@pobox.example", "brian@isp.example", "no address"):
        assert await files.entry(name) is None
    write("brian", 'to = ["c@isp.example"]\n')
    route = await files.entry("brian@pobox.example")
    assert route is not None
    assert route.to == (Mailbox("c", "isp.example"),)


async def test_a_change_during_a_read_is_read_again(addresses: Make, write: Write, monkeypatch: Any) -> None:
    write("brian", 'to = ["old@isp.example"]\n')
    files = addresses()
    visit, calls = files._reader.visit, []

    def overtaken(*asked: Any) -> Any:
        seen = visit(*asked)
        calls.append(asked)
        if len(calls) == 1:
            write("brian", 'to = ["new@isp.example"]\n')
            trio.from_thread.run_sync(files.changed, BRIAN)
        return seen

    monkeypatch.setattr(files._reader, "visit", overtaken)
    assert (await winner(files, "brian")).to == (Mailbox("new", "isp.example"),)
    assert len(calls) == 2


async def test_a_flood_of_made_up_names_evicts_no_entry(addresses: Make, write: Write, monkeypatch: Any) -> None:
    monkeypatch.setattr("forwarder.config.addresses.ABSENT_MOST", 20)
    monkeypatch.setattr("forwarder.config.addresses.FOUND_MOST", 3)
    age(write("brian", 'to = ["b@isp.example"]\n'))
    files = addresses()
    await winner(files, "brian")
    await files.read([Mailbox(f"brian+{number}", "pobox.example") for number in range(50)])
    await files.read([Mailbox(f"x{number}", "pobox.example") for number in range(50)])
    assert isinstance(files.look_up(BRIAN), Found)
    assert len(files._absent) <= 20


async def test_the_winner_and_all_it_shadows(addresses: Make, write: Write) -> None:
    write(
        "domains/pobox.example.toml",
        'catch_all = { to = ["lost@isp.example"] }\n'
        '[[pattern]]\nmatch = "s*"\nto = ["a@isp.example"]\n[[pattern]]\nmatch = "sales*"\nto = ["b@isp.example"]\n',
    )
    write("sales", 'to = ["plain@isp.example"]\n')
    write("sales+de", 'to = ["german@isp.example"]\n')
    files = addresses()
    for name, wanted in (
        ("Sales+de", ["sales+de@", "sales@", "sales*@", "s*@", "@"]),
        ("sales+fr", ["sales@", "sales*@", "s*@", "@"]),
        ("nobody", ["@"]),
    ):
        routes = files.contenders(Mailbox(name, "pobox.example"))
        assert [route.entry.replace("pobox.example", "") for route in routes] == wanted
        assert routes[0] == await winner(files, name)
    assert files.contenders(Mailbox("sales", "isp.example")) == []


async def test_a_sweep_tells_every_entry_and_every_mistake(
    folder: Path, write: Write, settings: Settings, specs: Mapping[str, Any]
) -> None:
    write(
        "domains/pobox.example.toml",
        'catch_all = { to = ["lost@isp.example"] }\n[[pattern]]\nmatch = "s-*"\nto = ["{1}@isp.example"]\n',
    )
    write("domains/bad.example.toml", "tag = 1\n")
    write("brian", 'strategy = "subscribe"\nreaders = ["brian"]\n')
    write("wrong", "to = 5\n")
    write("addresses/pobox.example/brian.toml~", "to = 5\n")
    write("addresses/isp.example/anna.toml", 'to = ["a@b.example"]\n')
    found = list(sweep(folder, settings, specs))
    assert {route.entry for route in found if isinstance(route, Route)} == {
        "@pobox.example", "s-*@pobox.example", "brian@pobox.example",
    }  # fmt: skip
    assert {error.file for error in found if isinstance(error, ConfigError)} == {
        "domains/bad.example.toml", "addresses/pobox.example/wrong.toml",
    }  # fmt: skip


async def test_a_domain_seen_changed_makes_its_fresh_entries_due(addresses: Make, write: Write) -> None:
    write("domains/pobox.example.toml", 'defaults.note = "old"\n')
    write("brian", 'to = ["b@isp.example"]\n')
    files = addresses()
    assert (await winner(files, "brian")).note == "old"
    write("domains/pobox.example.toml", 'defaults.note = "brand new"\n')
    await files.read([Mailbox("anna", "pobox.example")])
    assert files.look_up(BRIAN) is None
    assert (await winner(files, "brian")).note == "brand new"
