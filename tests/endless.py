"""Programs that tests run as processes of their own."""

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
