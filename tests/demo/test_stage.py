"""What may end the demo, and what is as before when it has ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder.cli.errors import No
from forwarder.demo import stage
from forwarder.demo.daemons import PortTaken


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Whoever runs the tests may have told them not to hear of a hang-up."""
    before = {number: signal.getsignal(number) for number in stage.ENDING}
    for number in stage.ENDING:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", stage.INTERRUPTING)
def test_a_signal_strikes_when_what_must_not_be_disturbed_is_done(number: signal.Signals) -> None:
    done = []

    def disturbed() -> None:
        with stage.undisturbed():
            signal.raise_signal(number)
            done.append(number)

    with pytest.raises(KeyboardInterrupt):
        disturbed()
    assert done == [number]


@pytest.mark.parametrize("number", stage.ENDING)
def test_they_end_it_as_ctrl_c_does(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stage.ended_by_signals():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As of a closed terminal, under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stage.ended_by_signals(), stage.undisturbed():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("keep", [True, False])
def test_a_folder_and_an_environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("THERE", "before")
    here, before = Path.cwd(), dict(os.environ)
    with stage.folder(keep, lambda path: {"THERE": path, "NEW": "new"}) as folder:
        assert (os.environ["THERE"], os.environ["NEW"], str(Path.cwd())) == (folder, "new", folder)
    assert (Path.cwd(), dict(os.environ)) == (here, before)
    assert Path(folder).exists() is keep


def test_once_more_where_somebody_took_a_port() -> None:
    usual = []

    def part(usual_ports: bool) -> int:
        usual.append(usual_ports)
        if usual_ports:
            raise PortTaken("mx")
        return 0

    assert (stage.told(part), usual) == (0, [True, False])
    with pytest.raises(No, match="no free port for mx"):
        stage.told(lambda usual_ports: part(True))
