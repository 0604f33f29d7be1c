import pytest

from fieldmark.exports.eight_bits import Operation, rounded


def operations(*described: str) -> list[Operation]:
    """Each as "name role input input"."""
    return [Operation(name, role, tuple(inputs)) for name, role, *inputs in map(str.split, described)]


NETWORK = operations(
    "normalise follows",
    "rearrange moves normalise",
    "stem convolution rearrange",
    "relu follows stem",
    "pad moves relu",
    "depthwise convolution pad",
    "swish passes depthwise",
    "add follows swish relu",
    "last convolution add",
    "activation follows last",
    "pooled follows activation",
    "head matrix pooled",
    "weighed float activation",
)


def test_convolutions_and_what_lies_between_them_is_rounded():
    assert rounded(NETWORK) == {"rearrange", "stem", "relu", "pad", "depthwise", "add", "last"}


@pytest.mark.parametrize(
    ("kept", "lost"),
    [("stem", {"rearrange", "stem", "relu", "add"}), ("depthwise", {"relu", "pad", "depthwise", "add"}), ("last", {"add", "last"})],
)
def test_what_stays_in_float_takes_its_neighbours_with_it(kept, lost):
    assert rounded(NETWORK, [kept]) == rounded(NETWORK) - lost


def test_what_moves_values_for_others_too_is_not_rounded():
    shared = operations("rearrange moves", "stem convolution rearrange", "tokens float rearrange")
    assert rounded(shared) == {"stem"}


def test_a_network_without_convolutions_is_not_rounded():
    assert rounded(operations("project matrix", "relu follows project", "head matrix relu")) == frozenset()
