"""Exports runs in every format and precision, and holds each bundle against its run in float32 on all images of the dataset.

    python benchmarks/bundles.py runs/a runs/b --out bundles [--formats onnx openvino] [--only int8]

Prints a row of a table for each bundle: equal answers and the largest difference of a probability on all images, train included, then the
accuracy of both on test with the paired interval of the loss, and what cured int8. A refused bundle has the reason. Bundles stay in the
folder; those that are there already are only measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import fieldmark
from fieldmark.bundles.record import FORMATS
from fieldmark.core.console import Console
from fieldmark.core.errors import FieldmarkError
from fieldmark.datasets.split_file import restore_data
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.split import open_split
from fieldmark.exports.exporters import exporter_of
from fieldmark.exports.parity import Reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--only", choices=("float32", "int8"))
    args = parser.parse_args()
    print("| network | format | | equal answers | largest difference | on test: run | bundle | loss | size, MB | cures |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for path in args.runs:
        compared(Run.load(path), args.out, args.formats, [args.only] if args.only else ["float32", "int8"])


def compared(run: Run, out: Path, formats: list[str], precisions: list[str]) -> None:
    console = Console(quiet=True)
    loaded = restore_data(run.folder, run.class_names, console)
    single = run.in_float32()
    rows = {split: loaded.rows(split) for split in ("train", "val", "test")}
    every = np.sort(np.concatenate(list(rows.values())))
    reference = Reference(single.predict_rows(loaded, every, console), single.decisions, single.score)
    pixels = open_split(loaded, every, single.preprocess, single.recipe.data.corrupt, console)
    tested = np.flatnonzero(np.isin(pixels.rows, rows["test"]))
    of_test = Reference(reference.predictions.take(tested), single.decisions, single.score)
    for format in formats:
        for precision in precisions:
            if precision == "int8" and not exporter_of(format).tool:
                continue
            folder = out / f"{run.path.name}-{format}-{precision}"
            start = f"| {run.path.name} | {format} | {precision} |"
            try:
                exists = folder.exists()
                bundle = fieldmark.load_bundle(folder) if exists else fieldmark.export(run, folder, format, precision == "int8", quiet=True)
            except FieldmarkError as error:
                print(f"{start} {str(error).splitlines()[0]} |", flush=True)
                continue
            logits, features = pixels.outputs_of(bundle.session, console)
            agreement, loss = reference.agreement(logits, features), of_test.loss(logits[tested])
            size = sum(each.stat().st_size for each in folder.iterdir() if each.name.startswith("model"))
            cures = bundle.record.quantisation.cures if bundle.record.quantisation else ()
            print(
                f"{start} {agreement.equal:,} of {agreement.n:,} | {agreement.largest_difference:.1g} | {loss.run:.1f} | {loss.bundle:.1f} "
                f"| {loss.points:+.2f} [{loss.low:+.2f}, {loss.high:+.2f}] | {size / 1e6:.1f} | {', '.join(cures) or '–'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
