"""The second part: today's mail through Postfix, in and out by SMTP, read with fetchmail (docs/decisions/0002)."""
