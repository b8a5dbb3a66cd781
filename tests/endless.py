"""Programs that tests run as processes of their own."""

import signal
import subprocess
import sys


def stopped(program: str, arguments: list[str], how: str) -> tuple[int, list[str]]:
    """Run a Python program until it says "there", and send it the signal `how`; its exit code and messages."""
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "there\n"
            process.send_signal(signal.Signals[how])
            _, messages = process.communicate()
        finally:
            process.kill()
    return process.returncode, messages.splitlines()


# ``onecopy load``, in which the file of the first argument never ends; says "there" when it has come to it.
ENDLESS = """
import sys, threading
from onecopy import _text
from onecopy.__main__ import main

load, name = _text.load, sys.argv[1]

def endless(path, dtype, *, progress, **options):
    if path == name:
        print("there", flush=True)
        while True:
            progress(0)
            threading.Event().wait(0.001)
    return load(path, dtype, progress=progress, **options)

_text.load = endless
sys.exit(main(["load", *sys.argv[2:]]))
"""
