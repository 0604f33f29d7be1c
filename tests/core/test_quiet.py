import logging
import os
import subprocess
import sys
import warnings

import pytest

from fieldmark.core.quiet import quiet

NOISY = """
import logging, os, sys, warnings
from fieldmark.core.quiet import quiet

def noise(word):
    print(word)
    print(word, file=sys.stderr)
    warnings.warn(word)
    logging.getLogger("some").error(word)
    os.write(1, word.encode())
    os.write(2, word.encode())

with quiet(native=True):
    noise("inside")
noise("after")
"""


def test_nothing_reaches_the_console_until_it_ends():
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, check=True)
    assert "inside" not in done.stdout + done.stderr
    assert done.stdout.count("after") == 2 and done.stderr.count("after") == 4


def test_the_process_is_as_before_even_after_an_error(capfd):
    before = sys.stdout, sys.stderr, logging.root.manager.disable, list(warnings.filters)
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(RuntimeError, match="said"), quiet(native=True):
        os.write(2, b"inside")
        raise RuntimeError("said")
    assert before == (sys.stdout, sys.stderr, logging.root.manager.disable, list(warnings.filters))
    assert not descriptors or len(os.listdir("/proc/self/fd")) == descriptors
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_a_process_without_a_console(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with quiet(native=True):
        print("nowhere")
    assert sys.stdout is None


def test_progress_is_shown_while_libraries_are_silent(capsys):
    with quiet(progress=True):
        print("inside")
        print("half done", file=sys.stderr)
    assert capsys.readouterr() == ("", "half done\n")
