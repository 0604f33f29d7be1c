"""GTSRB as Kaggle has it, with two signs of two tracks of two photographs each, and one photograph of each sign in test."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

_HEADER = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path"


def write(root: Path) -> Path:
    root = root / "gtsrb"
    train, test, meta = [_HEADER], [_HEADER], ["Path,ClassId,ShapeId,ColorId,SignId"]
    for label in (2, 14):
        for track in range(2):
            for turn in range(2):
                path = f"Train/{label}/{label:05d}_{track:05d}_{turn:05d}.png"
                put(root / path, jpeg(100 * label + 10 * track + turn))
                train.append(f"64,48,5,5,58,{42 + turn},{label},{path}")
        put(root / f"Test/{label:05d}.png", jpeg(1000 + label))
        test.append(f"64,48,5,6,58,42,{label},Test/{label:05d}.png")
        put(root / f"Meta/{label}.png", jpeg(2000 + label))
        meta.append(f"Meta/{label}.png,{label},1,0,3.29")
    for name, lines in (("Train", train), ("Test", test), ("Meta", meta)):
        put(root / f"{name}.csv", "".join(f"{line}\n" for line in lines))
    return root


MINIATURE = Miniature(
    layout="gtsrb",
    write=write,
    class_names=("2", "14"),
    counts={"train": 8, "test": 2},
    levels={},
    boxes=True,
    groups=True,
    annotations=("gtsrb/Train.csv", "gtsrb/Test.csv"),
    marks=(),
)
