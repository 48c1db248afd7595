"""A POP3 door: an account's mailboxes, read with the mail programs people have."""
