"""Bridges to today's mail: SMTP comes in by LMTP, goes out by a smarthost."""
