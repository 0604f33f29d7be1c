"""The caller's process: a call may set its threads, generators and PyTorch's modes, and puts all of that back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fieldmark.core.environment import kept_environment


@contextmanager
def borrowed_process() -> Iterator[None]:
    """After the `with` block the process is as it was before, whatever ran inside.

    Put back are environment variables, the global generators of Python, NumPy and PyTorch, PyTorch's number of threads and OpenCV's, and
    whether cuDNN chooses deterministic kernels. Inside, PyTorch records gradients and makes float32 by default, whatever the caller chose
    (`inference_mode`, `no_grad`, `set_default_dtype`). So what is drawn or computed inside does not depend on any of this.

    Not put back: modules that were imported, with the filters for warnings that they set, and how the C library keeps freed memory
    (`models.device.keep_freed_memory`), which has no way back.
    """
    tensors, made = torch.get_rng_state(), torch.get_default_dtype()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    threads, deterministic, of_opencv = torch.get_num_threads(), torch.backends.cudnn.deterministic, _opencv_threads()
    try:
        with kept_environment(), torch.inference_mode(False), torch.enable_grad():
            torch.set_default_dtype(torch.float32)
            yield
    finally:
        torch.set_default_dtype(made)
        if on_gpus is not None:
            torch.cuda.set_rng_state_all(on_gpus)
        elif torch.cuda.is_available() and not torch.equal(tensors, torch.get_rng_state()):
            torch.cuda.seed_all()  # what seeds one generator seeds all; at random, as they are when CUDA is first used
        torch.set_rng_state(tensors)
        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = deterministic
        if (opencv := sys.modules.get("cv2")) is not None:
            opencv.setNumThreads(-1 if of_opencv is None else of_opencv)  # -1: as many as when it is first imported


def _opencv_threads() -> int | None:
    """None if OpenCV is not imported yet."""
    opencv = sys.modules.get("cv2")
    return None if opencv is None else opencv.getNumThreads()
