import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from fieldmark.core.errors import InputError
from fieldmark.scoring.enrolment import Enrolled, KnownClasses
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection_scores import unit_length

WIDTH, CLASSES = 24, 12


class World:
    """Classes around means on a sphere, with one covariance that is far from round."""

    def __init__(self, seed=0, classes=CLASSES + 6, apart=1.0):
        self.random = np.random.default_rng(seed)
        self.means = apart * self.random.normal(size=(classes, WIDTH)) + 4
        self.shape = np.linspace(0.3, 2, WIDTH)

    def draw(self, label, n):
        return (self.means[label] + self.shape * self.random.normal(size=(n, WIDTH))).astype(np.float32)

    def predictions(self, each, classes=CLASSES):
        features = np.concatenate([self.draw(label, each) for label in range(classes)])
        labels = np.repeat(np.arange(classes, dtype=np.int32), each)
        names = tuple(f"class {label}" for label in range(classes))
        logits = np.eye(classes, dtype=np.float32)[labels]
        return Predictions(np.array([str(row) for row in range(len(labels))]), labels, logits, features, names)

    def known(self):
        return KnownClasses.of(self.predictions(40), self.predictions(20))

    def enrolled(self, label, photos):
        return Enrolled(f"new {label}", unit_length(self.draw(label, photos)), ())


def accuracy(head, world, labels, places):
    hits = [(head(world.draw(label, 200))[0].argmax(axis=1) == place).mean() for label, place in zip(labels, places, strict=True)]
    return float(np.mean(hits))


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def known(world):
    return world.known()


def test_without_enrolled_classes_it_is_linear_discriminant_analysis(world, known):
    means, covariance = known.means.astype(np.float64), known.covariance.astype(np.float64)
    asked = world.draw(0, 50)
    unit = unit_length(asked).astype(np.float64)
    densities = np.stack([multivariate_normal(mean, covariance).logpdf(unit) for mean in means], axis=1)
    densities += known.within / known.counts / 2
    logits = known.head([])(asked)[0].astype(np.float64)
    ours, theirs = (each - each.mean(axis=1, keepdims=True) for each in (logits, densities))
    scale = (ours * theirs).sum() / (theirs**2).sum()
    assert scale > 0 and np.abs(ours - scale * theirs).max() < 1e-3 * np.abs(ours).max()


def test_new_classes_are_recognised_and_old_ones_kept(world, known):
    old, new = range(CLASSES), range(CLASSES, CLASSES + 4)
    before = accuracy(known.head([]), world, old, old)
    found = []
    for photos in (1, 3, 10):
        head = known.head([world.enrolled(label, photos) for label in new])
        assert accuracy(head, world, old, old) > before - 0.06
        found.append(accuracy(head, world, new, new))
    assert found[0] < found[1] < found[2] and found[2] > 0.85 and before > 0.9


def test_a_class_claims_no_more_images_of_val_than_a_class_has(world, known):
    for photos in (1, 2, 5):
        head = known.head([world.enrolled(CLASSES, photos)])
        claimed = (head(known.features)[0].argmax(axis=1) == CLASSES).sum()
        assert claimed <= photos / (photos + 1) * len(known.labels) / (CLASSES + 1)


def test_photos_of_a_class_are_not_told_from_it_and_others_are(world, known):
    own = [known.like(world.enrolled(label, 6).features) == label for label in range(CLASSES) for _ in range(10)]
    assert np.mean(own) > 0.8
    for label in range(CLASSES, CLASSES + 6):
        new = world.enrolled(label, 6)
        assert known.like(new.features) is None
        assert known.like(world.enrolled(label, 6).features, [new]) == CLASSES


def test_photos_of_several_classes_disagree(world, known):
    mixed = unit_length(np.concatenate([world.draw(label, 1) for label in range(8)]))
    assert known.disagree(mixed)
    stray = unit_length(np.concatenate([world.draw(CLASSES, 7), world.draw(CLASSES + 1, 1)]))
    assert known.agreement(stray).argmin() == 7 and known.agreement(stray)[:7].min() > known.agreement(stray)[7] + 0.2
    assert not any(known.disagree(world.enrolled(label, 8).features) for label in range(CLASSES, CLASSES + 6))
    assert not known.disagree(mixed[:1])


def test_images_far_from_all_classes_are_rejected(world, known):
    new = world.enrolled(CLASSES, 10)
    score, held_out = known.rejection([new])
    logits, unit = known.head([new])(world.draw(CLASSES, 50))
    _, of_others = known.head([new])(world.draw(CLASSES + 1, 50))
    assert np.median(score(logits, unit)) > np.quantile(score(logits, of_others), 0.9) and held_out > 0.85


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 50))
def test_the_length_of_features_does_not_matter(scale, seed):
    features = np.random.default_rng(seed).normal(size=(3, WIDTH)).astype(np.float32)
    assert unit_length(scale * features) == pytest.approx(unit_length(features), abs=1e-6)
    assert np.linalg.norm(unit_length(features), axis=1) == pytest.approx(1, abs=1e-6)
    assert not unit_length(np.zeros((1, 3), np.float32)).any()


def test_a_class_without_images_is_named(world):
    train = world.predictions(5)
    with pytest.raises(InputError, match="class 3 has no images of train"):
        KnownClasses.of(train.take(np.flatnonzero(train.labels != 3)), train)
    with pytest.raises(InputError, match="no images of val"):
        KnownClasses.of(train, train.take(np.arange(0)))
