"""A bundle behind LitServe, for benchmarks/serving.py: python benchmarks/litserve_server.py BUNDLE PORT."""

from __future__ import annotations

import base64
import sys

import litserve
import numpy as np

import fieldmark
from fieldmark.core.processor import available_cores


class Api(litserve.LitAPI):
    """Decodes, computes and decides as Fieldmark does, an image at a time."""

    def setup(self, device: str) -> None:
        self.bundle = fieldmark.load_bundle(sys.argv[1], threads=1)
        self.bundle.session.warm_up()

    def decode_request(self, request: dict) -> np.ndarray:
        return self.bundle.preprocess.pixels(base64.b64decode(request["images"][0]["data"]))[None]

    def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.bundle.session(pixels)

    def encode_response(self, outputs: tuple[np.ndarray, np.ndarray]) -> dict:
        (answer,) = self.bundle.answerer.decided(*outputs, top=5)
        classes = list(zip(answer.classes, answer.probabilities.tolist(), strict=True))
        return {"classes": classes, "unknown": answer.unknown, "set": answer.among, "coarser": answer.coarser}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=available_cores())
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error")
