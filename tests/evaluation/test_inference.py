from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms import v2

from fieldmark.evaluation.inference import Normalisation

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_normalisation_agrees_with_torchvision() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8))
    ours = Normalisation(MEAN, STD)(pixels)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), v2.Normalize(MEAN, STD)(pixels.float() / 255).numpy(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(Normalisation(MEAN, STD)(pixels[:1])[0].numpy(), ours[0].numpy())
