"""What belongs to the whole process, put back where a library changes it as it is imported: environment variables and generators."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_environment() -> Iterator[None]:
    """After the `with` block the environment variables, and the global generators of Python and NumPy, are as they were before."""
    before, python = dict(os.environ), random.getstate()
    arrays = sys.modules.get("numpy.random")  # nobody has seeded what is not imported
    numbers = None if arrays is None else arrays.get_state()
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})
        random.setstate(python)
        if arrays is not None:
            arrays.set_state(numbers)
