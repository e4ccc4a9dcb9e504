"""Where the command begins: the script `stockhelper`, and `python -m stockhelper_cli`."""

from __future__ import annotations

import signal


def main() -> None:
    """Import the command line and run it."""
    # Until it is there, nothing is under way that could be half done: Ctrl-C ends us without Python's trace.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from stockhelper_cli import main as command_line

    command_line.main()


if __name__ == "__main__":
    main()
