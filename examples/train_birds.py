"""Train on the built-in birds, read the answer, look at what was mistaken for what, name a few images.

python examples/train_birds.py                    # the settings of `fieldmark demo`
python examples/train_birds.py train.epochs=30    # recipe keys, as on the command line
"""

import sys
from pathlib import Path

import fieldmark
from fieldmark.scoring.predictions import Predictions


def main(settings: list[str]) -> None:
    run = fieldmark.train("birds", *settings, recipe="demo")

    test = run.summary.test
    print(f"top-1 on {test.n} test images: {test.top1:.1f} % (95 % interval {test.top1_low:.1f} to {test.top1_high:.1f})")

    predictions = Predictions.load(run.folder.predictions / "test.npz")
    guesses = predictions.logits.argmax(axis=1)
    for image, label, guess in zip(predictions.ids, predictions.labels, guesses, strict=True):
        if guess != label:
            print(f"{image}: taken for {predictions.class_names[guess]}")

    root = Path(run.folder.manifest().data.root)
    for answer in run.predict([root / image for image in predictions.ids[::8]], top=2):
        print(f"{answer.path}: {answer.best} ({answer.probabilities[0]:.2f})")


if __name__ == "__main__":
    main(sys.argv[1:])
