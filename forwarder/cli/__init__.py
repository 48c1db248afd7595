"""One program, one verb a file (operator 3). Exit 0 fine, 1 "no" or "not now", 2 wrong use or wrong configuration.

Whatever goes wrong is one line on stderr; a traceback is for developers (FORWARDER_DEBUG=1). A verb's file imports
nothing heavy at its top, so that `forwarder --help` costs as little as it says.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from forwarder.cli.errors import Complaint, one_line, peel

USAGE = 2
NOT_NOW = 1
OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE})
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; the exit code. Never raises, but with FORWARDER_DEBUG=1."""
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        return _pipe_closed()
    return code


def _run(arguments: list[str]) -> int:
    try:
        from forwarder.cli.verbs import run  # who presses Ctrl-C while this loads is answered in words as well

        return run(arguments)
    except BrokenPipeError:
        raise
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    except BaseException as error:
        return _report(peel(error))


def _report(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    from forwarder.config.lines import ConfigErrors

    if isinstance(error, Complaint):
        for line in error.lines:
            print(one_line(line), file=sys.stderr)
        return error.code
    if isinstance(error, ConfigErrors):
        for wrong in error.errors:
            print(one_line(str(wrong)), file=sys.stderr)
        return USAGE
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename else ""
        print(one_line(f"forwarder: {named}{error.strerror}"), file=sys.stderr)
        return NOT_NOW if error.errno in OF_THE_DISK else USAGE
    if os.environ.get("FORWARDER_DEBUG"):
        raise error
    print(one_line(f"forwarder: internal error: {type(error).__name__}: {error}"), file=sys.stderr)
    return USAGE


def _pipe_closed() -> int:
    """Whoever read our output has gone: say nothing, at exit neither (the interpreter flushes once more)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
