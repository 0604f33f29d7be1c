"""GTSRB as first published: a table in the folder of each sign, semicolons, and a test whose classes came later."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

_HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"


def write(root: Path) -> Path:
    root = root / "GTSRB"
    test = [_HEADER]
    for label in (0, 1, 2):
        lines = [f"{_HEADER};ClassId"]
        for track in range(2):
            name = f"{track:05d}_00000.ppm"
            put(root / f"Final_Training/Images/{label:05d}/{name}", jpeg(10 * label + track))
            lines.append(f"{name};64;48;5;6;58;42;{label}")
        put(root / f"Final_Training/Images/{label:05d}/GT-{label:05d}.csv", "".join(f"{line}\r\n" for line in lines))
        put(root / f"Final_Test/Images/{label:05d}.ppm", jpeg(100 + label))
        test.append(f"{label:05d}.ppm;64;48;5;6;58;42")
    put(root / "Final_Test/Images/GT-final_test.test.csv", "".join(f"{line}\r\n" for line in test))
    put(root / "Readme-Images.txt", "GTSRB\n")
    return root


MINIATURE = Miniature(
    layout="gtsrb",
    write=write,
    class_names=("0", "1", "2"),
    counts={"train": 6, "unlabelled": 3},
    levels={},
    boxes=True,
    groups=True,
    annotations=("GTSRB/Final_Training/Images/*/GT-*.csv", "GTSRB/Final_Test/Images/*.csv"),
    marks=(),
)
