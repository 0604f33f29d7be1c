"""Whether folders are believed to be classes: what is read, what is asked, and what is no reason to ask."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.layouts.plausible import CLUES

COMMAND = re.compile(r"  (fieldmark train .+)\n      (.+)")


def make(root: Path, *files: str) -> Path:
    """Empty files stand for images: class folders are read without opening any. "x/{a,b}/1.jpg" is two files."""
    for file in (each for pattern in files for each in expanded(pattern)):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def expanded(pattern: str) -> Iterable[str]:
    if found := re.search(r"\{([^{}]*)\}", pattern):
        for choice in found[1].split(","):
            yield from expanded(pattern[: found.start()] + choice + pattern[found.end() :])
    else:
        yield pattern


def of(dataset: Dataset) -> tuple[tuple[str, ...], dict[str, int]]:
    """The classes, and how many images each split has."""
    return dataset.class_names, dict(Counter(dataset.splits.tolist()))


def asked(data: Path, **settings: str) -> str:
    """The question that reading it ends in, whose commands must all do what they say."""
    with pytest.raises(InputError) as caught:
        read_dataset(data, **settings)
    message = str(caught.value)
    commands = COMMAND.findall(message)
    assert commands, message
    for command, meaning in commands:
        _, _, path, *given = shlex.split(command)
        dataset = read_dataset(path, **{key.removeprefix("data."): value for key, _, value in (each.partition("=") for each in given)})
        assert meaning.startswith(f"{len(dataset.class_names):,} classes"), command
    return message


READ = {
    "Kaggle's cats and dogs": (
        ["training_set/training_set/{cats,dogs}/1.jpg", "test_set/test_set/{cats,dogs}/1.jpg"],
        "cats dogs",
        {"train": 2, "test": 2},
    ),
    "Intel scenes": (
        ["seg_train/seg_train/{forest,sea}/{1,2}.jpg", "seg_test/seg_test/{forest,sea}/1.jpg", "seg_pred/seg_pred/{1,2}.jpg"],
        "forest sea",
        {"train": 4, "test": 2, "unlabelled": 2},
    ),
    "the word last": (["images_{train,val}/{cats,dogs}/1.jpg"], "cats dogs", {"train": 2, "val": 2}),
    "words run together": (["{TrainImages,TestImages}/{cats,dogs}/1.jpg"], "cats dogs", {"train": 2, "test": 2}),
    "with blanks and digits": (["{Train Set 2,Test Set 2}/{cats,dogs}/1.jpg"], "cats dogs", {"train": 2, "test": 2}),
    "validation_images and dev": (["train/{cats,dogs}/1.jpg", "dev/{cats,dogs}/1.jpg"], "cats dogs", {"train": 2, "val": 2}),
    "test1 as in dogs against cats": (["train/{cats,dogs}/1.jpg", "test1/{1,2}.jpg"], "cats dogs", {"train": 2, "unlabelled": 2}),
    "fruits-360": (
        ["Training/{Apple Red 1,Banana}/1.jpg", "Test/{Apple Red 1,Banana}/1.jpg", "test-multiple_fruits/a.jpg", "papers/x.pdf", "LICENSE"],
        "Apple_Red_1 Banana",
        {"train": 2, "test": 2},
    ),
    "chest X-rays in a folder of downloads": (
        ["chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/1.jpeg", "readme.txt"],
        "NORMAL PNEUMONIA",
        {"train": 2, "val": 2, "test": 2},
    ),
    "splits in two folders that hold nothing else": (
        ["x/x/{train,test}/{a,b}/1.jpeg"],
        "a b",
        {"train": 2, "test": 2},
    ),
    "chest X-rays, packed twice": (
        ["{train,val,test}/{NORMAL,PNEUMONIA}/1.jpeg", "chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/1.jpeg", "__MACOSX/x/._1.jpg"],
        "NORMAL PNEUMONIA",
        {"train": 2, "val": 2, "test": 2},
    ),
    "FER2013": (["{train,test}/{angry,happy,sad}/im{0,1}.png"], "angry happy sad", {"train": 6, "test": 6}),
    "Tiny-ImageNet's train alone": (["train/n0144{3537,9283}/images/n_{0,1}.JPEG"], "n01443537 n01449283", {"train": 4}),
    "Stanford Dogs without its lists": (
        ["Images/n0208562{0-Chihuahua,1-Maltese}/1.jpg", "Annotation/n0208562{0-Chihuahua,1-Maltese}/1"],
        "n02085620-Chihuahua n02085621-Maltese",
        {"train": 2},
    ),
    "COVID-19 radiography": (["{COVID,Normal}/{images,masks}/{1,2}.png", "COVID.metadata.xlsx"], "COVID Normal", {"train": 4}),
    "images and masks above the classes": (["{images,masks}/{benign,malignant}/1.png"], "benign malignant", {"train": 2}),
    "splits inside classes": (["{cats,dogs}/{train,test}/{1,2}.jpg"], "cats dogs", {"train": 4, "test": 4}),
    "splits in a folder of data": (["data/{train,val}/{cats,dogs}/1.jpg", "README.md"], "cats dogs", {"train": 2, "val": 2}),
    "a folder of its own name": (["flowers/{daisy,rose}/1.jpg"], "daisy rose", {"train": 2}),
    "what systems and notebooks leave": (
        ["{cats,dogs}/1.jpg", "{@eaDir,__MACOSX,.ipynb_checkpoints,.thumbnails}/x/1.jpg", "Thumbs.db"],
        "cats dogs",
        {"train": 2},
    ),
    "our own runs": (
        ["{cats,dogs}/1.jpg", "runs/photos-x/{recipe.yaml,manifest.json,figures/a.png}", "runs/s/{study.json,runs/a/1,figures/b.png}"],
        "cats dogs",
        {"train": 2},
    ),
    "vehicles": (["{train,tram,bus}/1.jpg"], "bus train tram", {"train": 3}),
    "trains": (["{steam train,freight train,tram}/1.jpg"], "freight_train steam_train tram", {"train": 3}),
    "toy trains": (["{train 1,train 2}/{1,2}.jpg"], "train_1 train_2", {"train": 4}),
    "people": (["{test_pilot,engineer,training officer}/1.jpg"], "engineer test_pilot training_officer", {"train": 3}),
    "stamps": (["{validation stamp,date stamp,test stamp}/1.jpg"], "date_stamp test_stamp validation_stamp", {"train": 3}),
    "departments": (["{dev,sales}/1.jpg"], "dev sales", {"train": 2}),
    "documents": (["{valid,invalid}/1.jpg"], "invalid valid", {"train": 2}),
    "trial arms": (["{test,control}/1.jpg"], "control test", {"train": 2}),
    "numbers": (["{0,1,2,10}/1.png"], "0 1 2 10", {"train": 4}),
    "numbered people": (["{person_01,person_02}/1.jpg"], "person_01 person_02", {"train": 2}),
    "genera": (["{Parus,Turdus}/{001,002}.jpg"], "Parus Turdus", {"train": 4}),
    "years within classes": (
        ["cats/{2019,2020}/1.jpg", "dogs/{2019,2020}/1.jpg", "{cats,dogs,cows}/0.jpg"],
        "cats cows dogs",
        {"train": 7},
    ),
    "one folder within each class": (["Parus/major/1.jpg", "Turdus/merula/1.jpg"], "Parus Turdus", {"train": 2}),
    "files named alike by a camera": (["{a,b}/IMG_00{1,2,3}{1,2,3}.jpg"], "a b", {"train": 18}),
    "the same views of each class": (["{a,b}/{front,back,left,right,top}.jpg"], "a b", {"train": 10}),
    "days within a class": (["cats/2019-0{1,2}/1.jpg", "dogs/1.jpg"], "cats dogs", {"train": 3}),
    "years": (["{2011,2012}/1.jpg"], "2011 2012", {"train": 2}),
    "few images beside": (["{a,b}/{1,2}.jpg", "cover.jpg"], "a b", {"train": 4}),
    "UC Merced": (["Images/{agricultural,airplane}/x00.tif", "readme.txt"], "agricultural airplane", {"train": 2}),
    "MNIST": (["{training,testing}/{0,1}/{7,8}.png"], "0 1", {"train": 4, "test": 4}),
    "lists beside": (["{a,b}/1.jpg", "README.txt", "SHA256SUMS", "labels.txt", "classes.txt", "class_indices.json"], "a b", {"train": 2}),
    "arrows": (["{left,right}/{1,2}.png"], "left right", {"train": 4}),
    "kinds of images": (["{photos,screenshots,drawings}/1.png"], "drawings photos screenshots", {"train": 3}),
    "objects": (["{mask,glasses}/1.png"], "glasses mask", {"train": 2}),
}


@pytest.mark.parametrize(("files", "names", "counts"), READ.values(), ids=READ)
def test_it_is_read(tmp_path: Path, files: list[str], names: str, counts: dict[str, int]) -> None:
    data = make(tmp_path / "flowers", *files)
    classes, found = of(read_dataset(data))
    assert ([name.replace(" ", "_") for name in classes], found) == (names.split(), counts)


CAMERA = ",".join(f"DSC2019030412{number:04}" for number in range(0, 90, 7))
ASKED = {
    "nested": (
        ["Audi/{A4,A6,Q3}/201{1,2}/1.jpg", "BMW/{X1,X3}/201{1,2}/1.jpg"],
        "every folder holds only folders: Audi holds A4, A6, Q3",
        "=1 =2 =3 =2-3",
    ),
    "nested in splits": (["{train,test}/Aves/{a,b}/1.jpg", "{train,test}/Insecta/{c,d}/1.jpg"], "every folder holds only folders", "=2 =3"),
    "Places365": (["a/{airfield,alley}/1.jpg", "f/field/{wild,cultivated}/1.jpg", "f/farm/1.jpg"], "only folders", "=1 =2 =2-"),
    "splits with classes inside sets": (
        ["{bottle,cable}/{train/good,test/good,test/broken}/1.png"],
        "all of bottle, cable hold the same folders: test, train",
        "=1",
    ),
    "variants": (
        ["{color,grayscale,segmented}/{Apple___scab,Apple___rust}/1.jpg"],
        "hold the same folders: Apple___rust",
        "color grayscale segmented =1 =2 =1-2",
    ),
    "folds": (["fold{1,2,3}/{dog_bark,siren}/1.png"], "fold1, fold2, fold3 are numbered parts", "fold1 fold2 fold3 =1 =2 =1-2"),
    "versions": (["{original,grayscale}/{1,2}.png"], "are versions of images, by their names", "=1"),
    "sizes": (["{64x64,128x128}/{a,b}/1.png"], "are versions of images, by their names", "128x128 64x64 =1 =2 =1-2"),
    "the whole again": (
        ["{daisy,rose}/1.jpg", "flowers/{daisy,rose}/1.jpg"],
        "flowers holds a folder for each of those beside it",
        "flowers =1 =2 =1-",
    ),
    "images with masks of others": (["{images,masks,cats}/1.png"], "images by name holds images; masks by name holds masks", "=1"),
    "one class holds only folders": (
        ["{cats,dogs}/1.jpg", "birds/{robin,wren}/1.jpg"],
        "1 of 3 folders holds only folders: birds",
        "=1 =2 =1-",
    ),
    "Office-31": (
        ["{amazon,dslr}/images/{back_pack,bike,mug}/1.jpg"],
        "all of amazon, dslr hold the same folders: back_pack, bike, mug",
        "amazon dslr =1 =3 =1-3",
    ),
    "days": (["2019-05-{01,02}/1.jpg"], "are called after the day or as a camera calls its folders", "=1"),
    "a camera's card": (["data/10{0,1}CANON/1.jpg"], "are called after the day or as a camera calls its folders", "=2"),
    "copies": (["{cats,dogs,dogs - Copy}/1.jpg"], "dogs - Copy by name is a copy of dogs", "=1"),
    "images beside the folders": (["{a,b}/1.jpg", "{1,2,3}.jpg"], "3 images lie beside the folders, in no class, and 2 in them", "=1"),
    "results": (["{cats,dogs,results}/1.png"], "results by name holds results", "=1"),
    "unlabelled": (["{cats,dogs,unlabeled}/1.png"], "unlabeled by name holds other things", "=1"),
    "parts": (["HAM10000_images_part_{1,2}/1.jpg"], "are numbered parts", "=1"),
    "the same files": (["{plain,marked}/{" + CAMERA + "}.jpg"], "hold files of the same names, such as DSC20190304120000", "=1"),
    "a train among vehicles": (
        ["train/{steam,diesel}/1.jpg", "{tram,bus}/1.jpg"],
        "train could be a split, with the classes diesel",
        "=1 =2 =1- train",
    ),
    "splits beside others": (["{train,test,tram}/1.jpg"], "test, train sound like splits and hold images", "=1"),
    "splits in the names of classes": (["{cats,dogs}_{train,test}/1.jpg"], "have a split in their names and hold images", "=1"),
}


@pytest.mark.parametrize(("files", "reason", "choices"), ASKED.values(), ids=ASKED)
def test_it_is_asked(tmp_path: Path, files: list[str], reason: str, choices: str) -> None:
    """Every reason is said, and every choice is a command that does what it says."""
    message = asked(make(tmp_path / "data", *files))
    assert reason in message
    assert [command.rpartition("class_depth" if "class_depth" in command else "/")[2] for command, _ in COMMAND.findall(message)] == (
        choices.split()
    )


@pytest.mark.parametrize("clue", [clue.name for clue in CLUES])
def test_every_clue_is_seen_by_an_example(tmp_path: Path, clue: str) -> None:
    examples = {
        "nested": "nested",
        "variants": "variants",
        "copy-of-the-whole": "the whole again",
        "versions": "versions",
        "other-things": "results",
        "numbered-parts": "parts",
        "same-files": "the same files",
        "camera-folders": "days",
        "copies": "copies",
        "loose": "images beside the folders",
    }
    assert ASKED[examples[clue]][1] in asked(make(tmp_path, *ASKED[examples[clue]][0]))


def test_a_folder_that_is_said_to_hold_classes_is_believed(tmp_path: Path) -> None:
    data = make(tmp_path, "{cats,dogs,results}/1.png")
    assert read_dataset(data, "class-folders").class_names == ("cats", "dogs", "results")
    assert read_dataset(data, class_depth=1).class_names == ("cats", "dogs", "results")
    nested = make(tmp_path / "nested", "{a,b}/{c,d}{1,2}/1.png")
    asked(nested, layout="class-folders")


def test_levels_above_a_class_are_its_taxonomy(tmp_path: Path) -> None:
    data = make(tmp_path, "train/{Audi,BMW}/{x,y}/201{1,2}/{1,2}.jpg", "test/{Audi,BMW}/{x,y}/201{1,2}/3.jpg")
    dataset = read_dataset(data, class_depth="2-4")
    assert of(dataset) == (
        tuple(f"{make}/{model}/201{year}" for make in ("Audi", "BMW") for model in "xy" for year in (1, 2)),
        {"train": 16, "test": 8},
    )
    assert {level.name: level.of_classes() for level in dataset.levels} == {
        "folder-2": ["Audi"] * 4 + ["BMW"] * 4,
        "folder-3": ["x", "x", "y", "y"] * 2,
    }
    years = read_dataset(data, class_depth=4)
    assert of(years) == (("2011", "2012"), {"train": 16, "test": 8}) and not years.levels


def test_folders_of_one_name_that_become_one_class_are_named(tmp_path: Path) -> None:
    data = make(tmp_path, "Parus/{major,ater}/1.jpg", "Dendrocopos/{major,medius}/1.jpg", "Sitta/{europaea,lonely}/1.jpg")
    alike = "major: in Dendrocopos and Parus, read as one class"
    dataset = read_dataset(data, class_depth=2)
    assert len(dataset.class_names) == 5 and f"{alike}; data.class_depth=1-2 keeps them apart" in dataset.notes
    assert not dataset.levels
    by_command = dict(COMMAND.findall(asked(data)))
    (one,) = (meaning for command, meaning in by_command.items() if command.endswith("class_depth=2"))
    assert alike in one and not any("one class" in meaning for command, meaning in by_command.items() if meaning != one)
    both = read_dataset(data, class_depth="1-2")
    assert [level.name for level in both.levels] == ["folder-1"] and not any("one class" in note for note in both.notes)


def test_names_that_only_the_split_tells_apart_are_no_merged_classes(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, "train/{a,b}/{x,y}{1,2}/1.jpg", "test/{a,b}/{x,y}{1,2}/1.jpg"), class_depth=3)
    (note,) = (note for note in dataset.notes if "one class" in note)
    assert note.startswith("x1: in a and b; x2: in a and b; y1: in a and b; and 1 more: each read as one class; data.class_depth=2-3 keeps")
    assert not any("one class" in note for note in read_dataset(tmp_path, class_depth=2).notes)


def test_images_above_the_level_are_counted(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, "a/{b,c}/1.jpg", "a/2.jpg", "d/e/f/3.jpg", "4.jpg"), class_depth=2)
    assert dataset.class_names == ("b", "c", "e") and dataset.paths == ("a/b/1.jpg", "a/c/1.jpg", "d/e/f/3.jpg")
    assert "passed over images outside any class folder: 2 (first: 4.jpg)" in dataset.notes


@pytest.mark.parametrize("depth", [0, -1, "x", "3-2", "1.5", True, 100, ""])
def test_what_is_no_depth(tmp_path: Path, depth: int | str) -> None:
    with pytest.raises(InputError, match=r"data\.class_depth"):
        read_dataset(make(tmp_path, "{a,b}/1.jpg"), class_depth=depth)


def test_a_depth_without_folders_names_those_that_have_some(tmp_path: Path) -> None:
    assert "no images in folders at level 3" in asked(make(tmp_path, "{a,b}/1.jpg"), class_depth=3)


def test_a_depth_means_nothing_to_a_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.class_depth has no effect on a table of images"):
        read_dataset(make(tmp_path, "list.csv") / "list.csv", "table", class_depth=1)


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    data = make(tmp_path, "a/{c,d}/1.png", "b/{e,f}/1.png")
    for name in "xyz":
        (data / "a" / name).symlink_to("..")
    assert read_dataset(data, class_depth="1-").class_names == ("a/c", "a/d", "b/e", "b/f")
    asked(data)


def test_splits_with_other_classes_are_called_that(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of train's, such as a, b; they are not splits of one dataset"):
        read_dataset(make(tmp_path, "train/{a,b}/1.jpg", "test/{c,d}/1.jpg"))


def test_a_class_that_train_lacks_and_val_has(tmp_path: Path) -> None:
    data = make(tmp_path, "train/{a,b}/1.jpg", "val/{a,b,c}/1.jpg")
    (data / "train" / "c").mkdir()
    with pytest.raises(InputError, match="class folder train/c has no images, and val has 1; add some, or move it elsewhere"):
        read_dataset(data)


def test_a_run_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a run or study of Fieldmark, and no dataset"):
        read_dataset(make(tmp_path, "{recipe.yaml,manifest.json,figures/1.png}"))


def test_a_folder_of_annotations_among_classes_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"class folder marks has no images, but 2 annotations \(1.xml, 2.xml\); it is no class"):
        read_dataset(make(tmp_path, "{cats,dogs}/1.jpg", "marks/{1,2}.xml"))


def test_masks_are_counted(tmp_path: Path) -> None:
    notes = read_dataset(make(tmp_path, "{a,b}/{images,masks}/{1,2}.png")).notes
    assert "passed over images in folders of masks: 4 (first: a/masks/1.png)" in notes
