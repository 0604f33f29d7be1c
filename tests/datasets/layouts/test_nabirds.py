from pathlib import Path

import pytest
from miniatures import edit, nabirds, refusal

from fieldmark.datasets.dataset import at_level
from fieldmark.datasets.layouts import read_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return nabirds.write(tmp_path)


def test_a_row_as_published(root: Path) -> None:
    dataset = read_dataset(root)
    row = dataset.paths.index("images/0663/0000000821dc4d0cbfe14cae3c85c829.jpg")
    assert dataset.label_names()[row] == "Peregrine Falcon (Immature)"
    assert dataset.splits[row] == "train"
    assert dataset.boxes is not None and dataset.boxes[row].tolist() == [5, 6, 45, 35]
    assert dataset.splits[dataset.paths.index("images/0663/0000000d21dc4d0cbfe14cae3c85c829.jpg")] == "test"


def test_levels_run_from_fine_to_coarse_and_nest(root: Path) -> None:
    dataset = read_dataset(root)
    assert [level.name for level in dataset.levels] == ["species", "family", "order"]
    family = at_level(dataset, "family")
    assert family.class_names == ("Caracaras and Falcons", "Emberizidae (Sparrows, Longspurs, Towhees)", "Woodpeckers")
    assert [level.name for level in at_level(dataset, "species").levels] == ["family", "order"]


def test_a_hierarchy_of_another_depth_has_numbered_levels(root: Path) -> None:
    edit(root / "hierarchy.txt", "46 22\n", "46 0\n")
    levels = {level.name: level.of_classes() for level in read_dataset(root).levels}
    assert list(levels) == ["level 2", "level 1"]
    assert levels["level 2"][0] == "Peregrine Falcon"
    assert levels["level 1"][0] == "Caracaras and Falcons"


def test_a_class_that_sits_higher_stands_for_itself(root: Path) -> None:
    edit(root / "hierarchy.txt", "555 124\n", "555 0\n")
    levels = {level.name: level.of_classes()[1] for level in read_dataset(root).levels}
    assert levels == {"species": "Red-naped Sapsucker", "family": "Red-naped Sapsucker", "order": "Red-naped Sapsucker"}


def test_a_flat_hierarchy_has_no_levels(root: Path) -> None:
    (root / "hierarchy.txt").write_text("".join(f"{key} 0\n" for key in nabirds._NODES if key != "0"))
    assert read_dataset(root).levels == ()


def test_shared_names_are_told_apart_by_ids(root: Path) -> None:
    edit(root / "classes.txt", "810 Dark-eyed Junco (Slate-colored)", "810 Dark-eyed Junco (White-winged)")
    edit(root / "classes.txt", "21 Woodpeckers", "21 Caracaras and  Falcons")
    dataset = read_dataset(root)
    assert dataset.class_names[3:] == ("Dark-eyed Junco (White-winged) (810)", "Dark-eyed Junco (White-winged) (811)")
    family = next(level for level in dataset.levels if level.name == "family")
    assert family.of_classes()[:2] == ["Caracaras and Falcons (9)", "Caracaras and Falcons (21)"]


def test_classes_keep_the_order_of_classes_txt(root: Path) -> None:
    lines = (root / "classes.txt").read_text().splitlines()
    (root / "classes.txt").write_text("\n".join(reversed(lines)))
    assert read_dataset(root).class_names == nabirds.MINIATURE.class_names[::-1]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("176 9\n", "176 176\n", "hierarchy.txt, line 6: class 176 is an ancestor of itself"),
        ("9 0\n21", "9 364\n21", "hierarchy.txt, line 1: class 9 is an ancestor of itself"),
        ("46 22\n", "46 99\n", "hierarchy.txt, line 4: there is no class '99' in classes.txt"),
        ("46 22\n", "99 22\n", "hierarchy.txt, line 4: there is no class '99' in classes.txt"),
        ("46 22\n", "", "classes.txt, line 5: class 46 has no parent in hierarchy.txt; only one class may be the root, and class 0 is"),
        ("46 22\n", "46 22\n46 21\n", "hierarchy.txt, line 5: class '46' is also in line 4"),
        ("46 22\n", "46\n", "hierarchy.txt, line 4: 1 fields instead of 2: class, parent"),
    ],
)
def test_what_is_wrong_in_the_hierarchy_is_named(root: Path, old: str, new: str, problem: str) -> None:
    edit(root / "hierarchy.txt", old, new)
    assert problem in refusal(root).splitlines()


def test_every_class_of_a_cycle_is_named_once(root: Path) -> None:
    edit(root / "hierarchy.txt", "9 0\n21", "9 364\n21")
    cycle = [line for line in refusal(root).splitlines() if "ancestor of itself" in line]
    assert [line.split()[4] for line in cycle] == ["9", "176", "364"]


def test_a_chain_of_classes_does_not_take_forever(root: Path) -> None:
    chain = range(1000, 41_000)
    with (root / "classes.txt").open("a") as file:
        file.writelines(f"{key} x\n" for key in chain)
    with (root / "hierarchy.txt").open("a") as file:
        file.writelines(f"{key} {key - 1 if key > 1000 else 0}\n" for key in chain)
    assert "hierarchy.txt, line 13: it is more than 20 levels above class 1020" in refusal(root)


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (
            "image_class_labels.txt",
            "4cae3c85c829 663\n00000004",
            "4cae3c85c829 7\n00000004",
            "line 3: there is no class '7' in classes.txt",
        ),
        ("images.txt", "0663/0000000321dc", "../0663/0000000321dc", "line 3: the path"),
        (
            "train_test_split.txt",
            "00000003-21dc-4d0c-bfe1-4cae3c85c829 1",
            "00000003-21dc-4d0c-bfe1-4cae3c85c829 2",
            "line 3: is train is '2'",
        ),
        (
            "bounding_boxes.txt",
            "00000003-21dc-4d0c-bfe1-4cae3c85c829 4 6 40 30",
            "00000003-21dc-4d0c-bfe1-4cae3c85c829 4 6 0 30",
            "line 3: the box",
        ),
    ],
)
def test_what_is_wrong_in_a_row_is_named(root: Path, file: str, old: str, new: str, problem: str) -> None:
    edit(root / file, old, new)
    assert f"{file}, {problem}" in refusal(root)


def test_an_image_without_a_box_is_named(root: Path) -> None:
    lines = (root / "bounding_boxes.txt").read_text().splitlines()
    (root / "bounding_boxes.txt").write_text("\n".join(lines[1:]))
    assert "images.txt, line 1: image 00000001-21dc-4d0c-bfe1-4cae3c85c829 has no box" in refusal(root)
