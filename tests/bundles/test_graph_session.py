import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.bundles.graph_session import GraphSession
from fieldmark.runtime.preprocess import Preprocess

SEEN = Preprocess(4, "squash", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def session(batches: tuple[int, ...], channels_last: bool = False):
    asked: list[int] = []

    def open_graph(batch: int):
        def run(images):
            assert images.flags.c_contiguous and images.shape == ((batch, 4, 4, 3) if channels_last else (batch, 3, 4, 4))
            asked.append(batch)
            red = images[..., 0] if channels_last else images[:, 0]
            return red.reshape(batch, -1).astype(np.float32), images.reshape(batch, -1)[:, :2].astype(np.float64)

        return run

    return GraphSession(SEEN, batches, open_graph, channels_last), asked


@given(st.integers(1, 40), st.sets(st.integers(1, 16), min_size=1), st.booleans())
def test_any_number_of_images_goes_through_graphs_of_fixed_sizes(n, batches, channels_last):
    pixels = np.random.default_rng(n).integers(0, 256, (n, 3, 4, 4), np.uint8)
    found, asked = session(tuple(sorted(batches)), channels_last)
    logits, features = found(pixels)
    np.testing.assert_array_equal(logits, pixels[:, 0].reshape(n, -1))
    assert len(features) == n and logits.dtype == features.dtype == np.float32
    assert sum(asked) < n + min(batches) and set(asked) <= batches


def test_the_largest_graph_that_images_fill_is_used():
    found, asked = session((1, 4, 16))
    found(np.zeros((23, 3, 4, 4), np.uint8))
    assert asked == [16, 4, 1, 1, 1]
