"""A program whose output goes to a terminal."""

import os
import pty
import subprocess


def on_terminal(command, folder, environment, *, columns=200, input=b""):
    """Run with both streams on a terminal of a width; returns what it was sent."""
    master, slave = pty.openpty()
    sent = bytearray()
    try:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env={**environment, "TERM": "xterm-256color", "COLUMNS": str(columns)},
            stdin=subprocess.PIPE,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        process.stdin.write(input)
        process.stdin.close()
        while True:
            try:
                sent += os.read(master, 65536)
            except OSError:
                break
        process.wait(timeout=120)
    finally:
        os.close(master)
    return bytes(sent)
