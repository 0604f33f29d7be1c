from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.load import load_recipe


def test_values_are_yaml_1_2():
    recipe = load_recipe(
        "default", ["optim.lr=1e-3", "model.name=no", "train.epochs=010", "model.max_parameters=4.2M", "train.patience=null"]
    )
    assert (recipe.optim.lr, recipe.model.name, recipe.train.epochs, recipe.model.max_parameters) == (1e-3, "no", 10, 4_200_000)
    assert recipe.train.patience is None


def test_hostile_files(tmp_path, problems):
    file = tmp_path / "r.yaml"
    for text, part in [
        ("train:\n  epochs: 1\n  epochs: 2\n", "line 3: found duplicate key"),
        ("- a\n- b\n", "expected sections"),
        ("a: [1, 2\n", "line"),
        ("extends: r.yaml\n", "extends itself"),
        ("extends: nowhere\n", "there is no recipe named 'nowhere'"),
        ("extends: [1]\n", "extends: expected the name"),
        ("train: !!python/object/apply:os.system ['true']\n", ""),
        ("a: &a [*a]\n", ""),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, "nested too deeply"),
        ("train:\n  epochs: 2024-01-01\n", "a value that a recipe cannot hold"),
        ("x" * 2_000_000, "too large"),
        ("\x00", ""),
    ]:
        file.write_text(text)
        assert part in "\n".join(problems(recipe=file)), text[:40]
    file.write_bytes(b"\xff\xfe\xfa")
    assert "cannot be read" in problems(recipe=file)[0]
    assert "there is no recipe file" in problems(recipe=tmp_path / "none.yaml")[0]
    assert "did you mean default?" in problems(recipe="defalt")[0]


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_setting_text_makes_a_recipe_or_an_input_error(text):
    try:
        load_recipe("default", [text])
    except InputError as error:
        assert error.problems
