from fieldmark.exports.graph_parts import GraphParts, Node


def chain(*nodes: tuple[str, str, str]) -> list[Node]:
    return [Node(name, kind, tuple(inputs.split())) for name, kind, inputs in nodes]


NETWORK = chain(
    ("images", "other", ""),
    ("stem", "layer", "images"),
    ("depthwise", "layer", "stem"),
    ("squeezed", "mean", "depthwise"),
    ("reduce", "layer", "squeezed"),
    ("expand", "layer", "reduce"),
    ("gate", "other", "expand"),
    ("scaled", "product", "depthwise gate"),
    ("project", "layer", "scaled"),
    ("sigmoid", "other", "project"),
    ("silu", "product", "project sigmoid"),
    ("pooled", "mean", "silu"),
    ("features", "other", "pooled"),
    ("linear", "layer", "features"),
    ("logits", "other", "linear"),
    ("class", "other", "logits"),
    ("weighed", "product", "silu class"),
    ("map", "mean", "weighed"),
)
OUTPUTS = {"logits": "logits", "features": "features", "map": "map"}


def test_the_parts_of_a_network_are_found_by_how_it_is_built():
    parts = GraphParts(NETWORK, OUTPUTS)
    assert parts.of("stem") == ["stem"] and parts.of("head") == ["linear"]
    assert parts.of("squeeze-excite") == ["squeezed", "reduce", "expand", "gate", "scaled"]
    assert parts.beside == ["class", "weighed", "map"] and parts.pooling == ["pooled"] and not parts.attends
    assert parts.in_float(()) == ["class", "map", "pooled", "weighed"]
    assert parts.in_float(("stem", "head")) == ["class", "linear", "map", "pooled", "stem", "weighed"]


def test_neither_gating_without_layers_nor_the_map_is_squeeze_excite():
    plain = [node for node in NETWORK if node.name not in ("reduce", "expand")]
    plain = [Node(node.name, node.kind, ("squeezed",)) if node.name == "gate" else node for node in plain]
    assert GraphParts(plain, OUTPUTS).of("squeeze-excite") == []


def test_the_heads_of_an_ensemble_are_those_of_its_members():
    members = [
        *chain(("images", "other", "")),
        *chain(("a.stem", "layer", "images"), ("a.pooled", "mean", "a.stem"), ("a.head", "layer", "a.pooled")),
        *chain(("b.stem", "layer", "images"), ("b.pooled", "mean", "b.stem"), ("b.head", "layer", "b.pooled")),
        *chain(("features", "other", "a.head b.head"), ("mixed", "other", "a.head b.head"), ("stack", "layer", "mixed")),
    ]
    outputs = {"logits": "stack", "features": "features"}
    parts = GraphParts(members, outputs, combines=True)
    assert parts.of("stem") == ["a.stem", "b.stem"] and parts.of("head") == ["a.head", "b.head"]
    assert parts.beside == ["mixed", "stack"] and parts.pooling == []
    assert GraphParts(members, outputs).of("head") == ["stack"]


def test_a_product_of_two_results_as_matrices_is_attention():
    nodes = chain(("images", "other", ""), ("q", "layer", "images"), ("k", "layer", "images"), ("scores", "attention", "q k"))
    assert GraphParts(nodes, {"logits": "scores", "features": "scores"}).attends
