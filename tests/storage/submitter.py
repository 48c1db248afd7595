"""A process of its own that submits for ever and prints each key once it was told it; the test kills it.

Arguments: the folder; the time. Every third message is un-pinned, which is printed too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from forwarder.model import parse_mailbox
from forwarder.storage.database import Database
from forwarder.storage.message_rows import Envelope
from forwarder.storage.message_schema import SCHEMA
from forwarder.storage.messages import StoredMessages
from forwarder.store.letters import letter


async def submit(messages: StoredMessages, body: bytes) -> bytes:
    upload = messages.upload()
    for at in range(0, len(body), 5000):
        await upload.write(body[at : at + 5000])
    expires = messages.now + 86_400
    made = letter("toby", upload.size, upload.sha256, None, expires)
    recipients = (parse_mailbox("brian@pobox.example"),)
    submitted = await messages.submit(upload, Envelope("toby", recipients, (), made, expires, upload.sha256, 1 << 40))
    return submitted.keys[0]


async def main(folder: Path, now: float) -> None:
    database = Database(folder / "state.db", SCHEMA)
    await database.open()
    messages = StoredMessages(database, folder / "bodies", lambda: now)
    await messages.open()
    async with trio.open_nursery() as nursery:
        await nursery.start(database.run)
        for worker in range(4):
            nursery.start_soon(work, messages, f"{folder.name} {worker}")


async def work(messages: StoredMessages, name: str) -> None:
    for n in range(10**9):
        body = f"{name} {n} ".encode() * (500 if n % 2 else 5000)
        key = await submit(messages, body)
        print("kept", key.hex(), len(body), flush=True)
        if n % 3 == 0:
            print("unpinning", key.hex(), flush=True)
            await messages.unpin(key, None)
            print("unpinned", key.hex(), flush=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), float(sys.argv[2]))
