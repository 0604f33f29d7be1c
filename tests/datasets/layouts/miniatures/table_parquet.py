"""A Parquet table as pandas writes it, given as DATA itself: numbers as labels, no splits, and a box missing."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from miniatures import Miniature, jpeg, put


def write(root: Path) -> Path:
    files = [f"{number % 3}_{number:02d}.jpg" for number in range(12)]
    for number, file in enumerate(files):
        put(root / "shots" / file, jpeg(number))
    sides = [1.0, None, *[float(number) for number in range(10)]]
    table = {
        "filepath": pa.array([f"shots/{file}" for file in files]),
        "label": pa.array([(2, 10, 33)[number % 3] for number in range(12)], pa.int64()),
        "make": pa.array([("Saab", "Volvo", "Saab")[number % 3] for number in range(12)]).dictionary_encode(),
        **{name: pa.array([None if side is None else side + at for side in sides]) for name, at in (("xmin", 0), ("ymin", 1))},
        **{name: pa.array([None if side is None else side + at for side in sides]) for name, at in (("xmax", 20), ("ymax", 30))},
        "__index_level_0__": pa.array(range(12)),
    }
    pq.write_table(pa.table(table), root / "cars.parquet")
    return root / "cars.parquet"


MINIATURE = Miniature(
    layout="table",
    write=write,
    class_names=("2", "10", "33"),
    counts={"train": 12},
    levels={"make": ("Saab", "Volvo", "Saab")},
    boxes=True,
    groups=False,
    annotations=("cars.parquet",),
    marks=("cars.parquet",),
    text=False,
)
