from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.datasets.birds.drawing import Pose, draw_bird
from fieldmark.datasets.birds.scene import PLUMAGES, individual, photograph
from fieldmark.datasets.birds.species import SPECIES, UNSEEN_SPECIES, Look

ALL = (*SPECIES, *UNSEEN_SPECIES)
POSE = Pose(tilt=-10, head=5, tail=0, yaw=0, facing_left=False)
CALM = np.zeros((8, 8))


def drawing(look: Look, pose: Pose = POSE, side: int = 240, scale: float = 110) -> tuple[np.ndarray, np.ndarray]:
    drawn = draw_bird(look, pose, side, scale, 0.0, CALM)
    return np.asarray(drawn.image, np.int16), np.asarray(drawn.cover)


@pytest.mark.parametrize("genus", sorted({species.genus for species in ALL}))
def test_species_of_a_genus_differ_and_by_little(genus: str) -> None:
    looks = [species.look for species in ALL if species.genus == genus]
    assert len(looks) == 4
    for first in range(4):
        for second in range(first):
            (one, here), (other, there) = drawing(looks[first]), drawing(looks[second])
            bird = ((here > 0) | (there > 0)).sum()
            changed = ((np.abs(one - other).max(-1) > 24) & ((here > 0) | (there > 0))).sum()
            assert 0.005 < changed / bird < 0.25, (looks[first], looks[second])


def test_species_differ_in_one_or_two_marks_only() -> None:
    """Colours and build are the genus's own; a species changes a mark, the bill, the tail or the legs."""
    for species in ALL:
        kin = [other.look for other in ALL if other.genus == species.genus]
        for name in ("girth", "head", "neck", "back", "belly", "leg_length", "wing"):
            assert len({getattr(look, name) for look in kin}) == 1


def test_facing_left_is_the_mirror_image() -> None:
    right, left = drawing(SPECIES[0].look), drawing(SPECIES[0].look, replace(POSE, facing_left=True))
    assert (right[1] == left[1][:, ::-1]).all() and (right[0] == left[0][:, ::-1]).all()


@given(st.sampled_from(ALL), st.integers(0, 2**62), st.integers(0, 2**62), st.sampled_from([32, 57, 96]))
@settings(max_examples=25)
def test_any_bird_is_within_its_image(species, bird, moment, size) -> None:
    photo = photograph(individual(species.look, bird), size, moment)
    left, top, width, height = photo.box
    assert photo.image.size == (size, size) and photo.image.mode == "RGB"
    assert left >= 0 and top >= 0 and left + width <= size + 1 and top + height <= size + 1
    assert max(width, height) > size / 3


def test_an_image_follows_from_its_keys() -> None:
    def bytes_of(bird: int, moment: int) -> bytes:
        return photograph(individual(SPECIES[3].look, bird), 48, moment).image.tobytes()

    assert bytes_of(1, 2) == bytes_of(1, 2)
    assert len({bytes_of(1, 2), bytes_of(1, 3), bytes_of(2, 2)}) == 3


def test_images_are_the_same_on_every_machine() -> None:
    """The pixels of one bird of every genus. Where this fails after a change of the drawings, raise VERSION in folder.py with it."""
    pixels = b"".join(photograph(individual(species.look, 5), 64, 6).image.tobytes() for species in SPECIES[::3])
    assert hashlib.sha256(pixels).hexdigest() == "6a8567b8af774d602ab06996cd3bf1ecfe0749b645f90db6509f146cf0040987"


def test_males_females_and_young_differ_in_colour() -> None:
    seen = {}
    for key in range(60):
        bird = individual(SPECIES[3].look, key)
        seen.setdefault(bird.plumage, []).append(np.ptp(bird.look.back))
    assert set(seen) == set(PLUMAGES) and min(map(len, seen.values())) > 10
    assert np.mean(seen["male"]) > np.mean(seen["female"]) > np.mean(seen["young"])
