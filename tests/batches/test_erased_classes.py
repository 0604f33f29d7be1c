import numpy as np
import pytest

from fieldmark.batches.erased_classes import cautions_of, erased_classes, turns_of
from fieldmark.core.recipe.augment import Augment


def drawn(shape, count, seed):
    """Pictures of 40 x 40 pixels: uint8 (n, 3, side, side), a dark arrow or a coloured disc somewhere on a light ground."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :40]
    pictures = []
    for _ in range(count):
        picture = np.empty((3, 40, 40))
        picture[:] = random.integers(150, 256, 3)[:, None, None] + random.normal(0, 6, (40, 40))
        middle, tip, reach = random.integers(14, 26), random.integers(28, 36), random.integers(5, 9)
        if shape in ("left", "right"):
            head = (x <= tip) & (x >= tip - reach) & (abs(y - middle) <= (tip - x) * 0.7)
            body = (abs(y - middle) <= 1) & (x >= 40 - tip) & (x <= tip)
            figure, colour = head | body, random.integers(0, 90, 3)
            figure = figure[:, ::-1] if shape == "left" else figure
        else:
            figure = (x - random.integers(15, 25)) ** 2 + (y - middle) ** 2 < 80
            colour = {"red": (200, 30, 40), "green": (30, 190, 40), "blue": (40, 30, 210)}[shape] + random.normal(0, 12, 3)
        picture[:, figure] = colour[:, None]
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def found(shapes, count=30, **augment):
    pixels = np.concatenate([drawn(shape, count, seed) for seed, shape in enumerate(shapes)])
    labels = np.repeat(np.arange(len(shapes)), count)
    erased = erased_classes(pixels, np.arange(len(labels)), labels, shapes, Augment(**augment))
    return {(each.one, each.other): each.turn.setting for each in erased}


def test_a_flip_erases_the_direction_of_arrows():
    assert found(("left", "right")) == {("left", "right"): "augment.flip=0"}
    assert found(("red", "left", "green", "right")) == {("left", "right"): "augment.flip=0"}


def test_a_rotation_erases_it_if_it_is_large_enough():
    assert found(("left", "right"), flip=0.0, rotate=180) == {("left", "right"): "augment.rotate=20"}
    assert found(("left", "right"), flip=0.0, rotate=20) == {}


def test_a_change_of_the_hue_erases_colours_if_it_reaches_from_one_to_the_other():
    assert found(("red", "green"), flip=0.0, hue=0.35) == {("red", "green"): "augment.hue=0"}
    assert found(("red", "green"), flip=0.0, hue=0.06) == {}


def test_what_differs_otherwise_is_not_named():
    assert found(("red", "green", "blue"), rotate=180) == {}
    assert found(("red", "left"), hue=0.5, rotate=180) == {}
    assert found(("left", "left", "red")) == {}, "two classes that look alike anyway"


def test_nothing_is_named_where_luck_could_explain_it():
    assert found(("left", "right"), count=5) == {}


@pytest.mark.parametrize("seed", range(5))
def test_classes_at_random_are_not_named(seed):
    pixels = np.concatenate([drawn("left", 40, seed), drawn("right", 40, seed + 9)])
    labels = np.random.default_rng(seed).integers(0, 4, len(pixels))
    assert erased_classes(pixels, np.arange(80), labels, "abcd", Augment()) == []


def test_the_birds_are_not_named(birds):
    from fieldmark.runtime.preprocess import square

    files = sorted(birds.glob("train/*/*.png"))
    pixels = np.stack([square(file, 32, "squash") for file in files])
    names = sorted({file.parent.name for file in files})
    labels = np.array([names.index(file.parent.name) for file in files])
    for augment in (Augment(), Augment(rotate=180, hue=0.5)):
        assert erased_classes(pixels, np.arange(len(files)), labels, names, augment) == []


def test_only_what_the_recipe_does_is_tried():
    assert [turn.setting for turn in turns_of(Augment())] == ["augment.flip=0"]
    assert list(turns_of(Augment(flip=0.0, rotate=30, hue=0.02))) == []
    assert len(list(turns_of(Augment(flip=0.5, rotate=180, hue=0.2)))) == 6


def test_the_caution_names_the_classes_and_the_setting():
    pixels = np.concatenate([drawn("left", 30, 0), drawn("right", 30, 1)])
    (caution,) = cautions_of(erased_classes(pixels, np.arange(60), np.repeat([0, 1], 30), ("left", "right"), Augment()))
    assert caution.startswith("A horizontal flip turns classes into one another") and "left and right. augment.flip=0" in caution
    assert cautions_of([]) == []
