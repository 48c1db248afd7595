"""The tables of our message store. Times are Unix seconds; mailboxes are texts, split at their last @.

* A key is looked up by the first 16 octets of its SHA-256, so the time of a look-up tells nothing of a near miss.
* A key's row outlives it as a tombstone; a message's row outlives its body as long as a key of it has a row.
* A copy belongs to the address that pulled it (`account` is then its name), never to an account that is named like it.
"""

from __future__ import annotations

from forwarder.storage.database import Migration

SCHEMA = (
    Migration(
        "messages-1",
        """
        CREATE TABLE message (
            number INTEGER PRIMARY KEY,
            account TEXT NOT NULL,
            file TEXT NOT NULL,
            size INTEGER NOT NULL,
            sha256 BLOB NOT NULL,
            headers INTEGER NOT NULL,
            summary BLOB NOT NULL,
            letter BLOB NOT NULL,
            fingerprint BLOB,
            made INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            freed INTEGER,
            archived INTEGER NOT NULL DEFAULT 0,
            removed INTEGER NOT NULL DEFAULT 0
        );
        CREATE INDEX message_of ON message (account, made);
        CREATE INDEX message_kept ON message (account, size) WHERE freed IS NULL;
        CREATE INDEX message_ends ON message (expires) WHERE freed IS NULL;
        CREATE INDEX message_freed ON message (freed) WHERE removed = 0;
        CREATE INDEX message_again ON message (fingerprint) WHERE fingerprint IS NOT NULL;
        CREATE INDEX message_file ON message (file);
        CREATE TABLE message_key (
            number INTEGER PRIMARY KEY,
            lookup BLOB NOT NULL UNIQUE,
            identifier BLOB NOT NULL,
            message INTEGER NOT NULL REFERENCES message (number),
            root INTEGER,
            bond INTEGER,
            recipient TEXT,
            folded TEXT,
            original TEXT,
            rna TEXT,
            agent TEXT,
            token BLOB,
            reader TEXT,
            public INTEGER NOT NULL DEFAULT 0,
            depth INTEGER NOT NULL DEFAULT 0,
            told INTEGER NOT NULL,
            life INTEGER NOT NULL,
            read INTEGER NOT NULL,
            due INTEGER,
            failures INTEGER NOT NULL,
            lastcode INTEGER,
            follow INTEGER NOT NULL,
            closed INTEGER,
            closer TEXT,
            winner INTEGER
        );
        CREATE INDEX key_due ON message_key (due) WHERE due IS NOT NULL;
        CREATE INDEX key_message ON message_key (message);
        CREATE INDEX key_root ON message_key (root) WHERE root IS NOT NULL;
        CREATE INDEX key_bond ON message_key (bond) WHERE bond IS NOT NULL;
        CREATE TABLE list (
            number INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            entry TEXT,
            reader TEXT,
            UNIQUE (entry, reader)
        );
        CREATE INDEX list_reader ON list (reader) WHERE reader IS NOT NULL;
        CREATE TABLE listed (
            list INTEGER NOT NULL REFERENCES list (number),
            at INTEGER NOT NULL,
            key INTEGER NOT NULL REFERENCES message_key (number),
            address TEXT,
            PRIMARY KEY (list, at, key)
        );
        CREATE INDEX listed_key ON listed (key);
        CREATE TABLE source (
            message INTEGER PRIMARY KEY REFERENCES message (number),
            notification BLOB NOT NULL,
            address TEXT NOT NULL,
            silence INTEGER NOT NULL,
            unpin INTEGER NOT NULL,
            held INTEGER NOT NULL,
            due INTEGER,
            failures INTEGER NOT NULL DEFAULT 0,
            since INTEGER NOT NULL
        );
        CREATE INDEX source_due ON source (due) WHERE due IS NOT NULL;
        CREATE TABLE pull (
            store TEXT NOT NULL,
            source BLOB NOT NULL,
            address TEXT NOT NULL,
            code INTEGER NOT NULL,
            sha256 BLOB,
            at INTEGER NOT NULL,
            forget INTEGER NOT NULL,
            PRIMARY KEY (store, source, address)
        );
        CREATE INDEX pull_alike ON pull (address, sha256, at);
        CREATE INDEX pull_forget ON pull (forget);
        """,
    ),
    # origin: where a copy came from, "STORE SENDER"; '': a copy of before; NULL: an account's own message.
    # shared: others hold the source's key too; of copies of before nobody knows, so their sources are left alone.
    Migration(
        "messages-2",
        """
        ALTER TABLE message ADD COLUMN origin TEXT;
        UPDATE message SET origin = '' WHERE number IN (SELECT message FROM source);
        DROP INDEX message_kept;
        CREATE INDEX message_kept ON message (account, origin, size) WHERE freed IS NULL;
        ALTER TABLE source ADD COLUMN shared INTEGER NOT NULL DEFAULT 1;
        """,
    ),
    Migration(
        "returns-1",
        """
        CREATE TABLE returned (
            key INTEGER PRIMARY KEY,
            once BLOB NOT NULL UNIQUE,
            sender TEXT NOT NULL,
            at INTEGER NOT NULL,
            quiet_until INTEGER NOT NULL,
            ended INTEGER,
            code INTEGER,
            reported INTEGER NOT NULL
        );
        CREATE INDEX returned_due ON returned (quiet_until) WHERE ended IS NOT NULL AND reported = 0;
        CREATE INDEX returned_at ON returned (at);
        """,
    ),
    # What an account's own messages take, kept by the writes themselves: to add it up anew for each message took a
    # time that grows with all that is kept (7 ms of 100,000).
    Migration(
        "messages-3",
        """
        CREATE TABLE room (account TEXT NOT NULL PRIMARY KEY, octets INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO room SELECT account, sum(CASE WHEN freed IS NULL THEN size ELSE 0 END) FROM message
            WHERE origin IS NULL GROUP BY account;
        CREATE TRIGGER room_taken AFTER INSERT ON message WHEN new.origin IS NULL AND new.freed IS NULL BEGIN
            INSERT INTO room VALUES (new.account, new.size)
                ON CONFLICT (account) DO UPDATE SET octets = octets + excluded.octets;
        END;
        CREATE TRIGGER room_freed AFTER UPDATE OF freed ON message
            WHEN new.origin IS NULL AND (old.freed IS NULL) <> (new.freed IS NULL) BEGIN
            UPDATE room SET octets = octets + CASE WHEN new.freed IS NULL THEN new.size ELSE -new.size END
                WHERE account = new.account;
        END;
        CREATE TRIGGER room_forgotten AFTER DELETE ON message WHEN old.origin IS NULL AND old.freed IS NULL BEGIN
            UPDATE room SET octets = octets - old.size WHERE account = old.account;
        END;
        """,
    ),
    # Small bodies, beside their rows: `file` is '' then.
    Migration(
        "bodies-1",
        """
        CREATE TABLE small_body (message INTEGER PRIMARY KEY REFERENCES message (number), octets BLOB NOT NULL);
        DROP INDEX message_file;
        CREATE INDEX message_file ON message (file) WHERE file <> '';
        """,
    ),
)
