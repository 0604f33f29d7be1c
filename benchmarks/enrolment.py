"""What classes enrolled from a few photos are worth, beside plain prototypes and beside training with the same photos.

    fieldmark train cars data.unknown_classes=20 --out runs/held
    python benchmarks/enrolment.py folder runs/held cars --photos 10 --out cars-10
    fieldmark train cars-10 --out runs/retrained
    python benchmarks/enrolment.py compare runs/held cars --photos 10 [--retrained runs/retrained]

The dataset is class folders in `train` and `test`. The classes that were held out of the first run are enrolled from photos drawn from
their images of train, and asked for on their images of test, beside all classes that were trained on theirs. `folder` makes the dataset of
the second training: all images of the trained classes, and the same photos of the others, as links. Without it, several draws of photos are
compared, and their standard deviation is stated.

Top-1 with 95 % intervals: of the trained classes by the run itself and after enrolling, and of the new ones. Plain prototypes: the class
with the largest cosine to the mean of its features of length 1. refused: classes whose photos cannot be told from another, by the rule of
`fieldmark enroll`; they are enrolled here all the same.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np

from fieldmark.evaluation.run import Run
from fieldmark.scoring.enrolment import Enrolled, KnownClasses
from fieldmark.scoring.intervals import share_interval
from fieldmark.scoring.rejection_scores import unit_length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("folder", "compare"))
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--photos", type=int, required=True)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--retrained", type=Path)
    args = parser.parse_args()
    run = Run.load(args.run)
    trained = set(run.class_names)
    new = sorted(path.name for path in (args.data / "train").iterdir() if path.name not in trained)
    if args.do == "folder":
        write_folder(args.data, args.out, drawn(args.data, new, args.photos, 0))
    else:
        compare(run, args.data, new, args.photos, 1 if args.retrained else args.draws, args.retrained)


def drawn(data: Path, new: list[str], photos: int, draw: int) -> dict[str, list[Path]]:
    """By class, the photos of a draw."""
    return {name: random.Random(f"{draw} {name}").sample(sorted((data / "train" / name).iterdir()), photos) for name in new}


def write_folder(data: Path, out: Path, photos: dict[str, list[Path]]) -> None:
    for split in ("train", "test"):
        for folder in sorted((data / split).iterdir()):
            (out / split / folder.name).mkdir(parents=True)
            files = photos[folder.name] if split == "train" and folder.name in photos else folder.iterdir()
            for file in files:
                (out / split / folder.name / file.name).symlink_to(file.resolve())


def compare(run: Run, data: Path, new: list[str], photos: int, draws: int, retrained: Path | None) -> None:
    train, val, test = (run.predictions(split) for split in ("train", "val", "test"))
    assert train is not None and val is not None and test is not None
    known, test = KnownClasses.of(train, val), test.labelled()
    classes = len(known.means)
    files = [path for split in ("train", "test") for name in new for path in sorted((data / split / name).iterdir())]
    features = dict(zip(files, features_of(run, files), strict=True))
    asked = [path for path in files if path.parent.parent.name == "test"]
    asked_features, wanted = np.stack([features[path] for path in asked]), np.array([new.index(path.parent.name) for path in asked])
    found: dict[str, list[np.ndarray]] = {}
    refused = 0
    for draw in range(draws):
        chosen = drawn(data, new, photos, draw)
        enrolled = [Enrolled(name, unit_length(np.stack([features[path] for path in chosen[name]])), ()) for name in new]
        refused += sum(known.like(each.features) is not None for each in enrolled)
        head = known.head(enrolled)
        means = unit_length(np.concatenate([known.means, *(each.features.mean(axis=0, keepdims=True) for each in enrolled)]))
        for name, answers in (
            ("enrolled", lambda each, head=head: head(each)[0].argmax(axis=1)),
            ("plain prototypes", lambda each, means=means: (unit_length(each) @ means.T).argmax(axis=1)),
        ):
            found.setdefault(f"{name}: trained classes", []).append(answers(test.features) == test.labels)
            found.setdefault(f"{name}: new classes", []).append(answers(asked_features) == classes + wanted)
    print(f"{photos} photos of each of {len(new)} classes, {draws} draws; {len(test):,} and {len(asked):,} images of test")
    print(f"the run: trained classes {shown([test.logits.argmax(axis=1) == test.labels])}")
    for name, hits in found.items():
        print(f"{name} {shown(hits)}")
    print(f"refused: {refused} of {draws * len(new)} classes")
    if retrained is not None:
        other = Run.load(retrained).predictions("test")
        assert other is not None
        hits, is_new = other.logits.argmax(axis=1) == other.labels, np.isin(np.array(other.class_names)[other.labels], new)
        print(f"retrained: trained classes {shown([hits[~is_new]])}")
        print(f"retrained: new classes {shown([hits[is_new]])}")


def features_of(run: Run, files: list[Path]) -> np.ndarray:
    outputs = [outputs for _, outputs in run.networks.stream(files) if outputs is not None]
    return np.concatenate([features for _, features in outputs])


def shown(draws: list[np.ndarray]) -> str:
    """The mean over draws, and the interval of the first, or their standard deviation."""
    shares = [100 * hits.mean() for hits in draws]
    if len(draws) > 1:
        return f"{np.mean(shares):.1f} %, from draw to draw ± {np.std(shares, ddof=1):.1f}"
    bounds = share_interval(draws[0])
    return f"{shares[0]:.1f} % [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


if __name__ == "__main__":
    main()
