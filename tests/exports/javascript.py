"""Node for tests of the JavaScript program of a bundle."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fieldmark.exports import readme

PACKAGES = ("onnxruntime-node", "sharp")
PROGRAM = Path(readme.__file__).with_name("predict.mjs")

_CALLS = """
import { readFileSync } from "node:fs";
import * as program from "./predict.mjs";

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const floats = (values) => Float32Array.from(values, (each) => each ?? NaN);
const image = ({ width, height, data }) => ({ width, height, data: bytes(data) });
const shown = ({ width, height, data }) => ({ width, height, data: Buffer.from(data).toString("base64") });
const calls = {
  square: (given, size, how) => shown(program.square(image(given), size, how)),
  decide: (bundle, file, logits, features) => program.decide(bundle, program.readArrays(file), floats(logits), floats(features)),
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(([name, ...given]) => calls[name](...given))));
"""


def node() -> str:
    return shutil.which("node") or pytest.skip("node is not on this machine")


def call(folder: Path, *calls: tuple) -> list[Any]:
    """What functions of the program return, without the packages that it needs."""
    for package in PACKAGES:
        home = folder / "node_modules" / package
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text(json.dumps({"name": package, "main": "index.js"}))
        (home / "index.js").write_text("")
    shutil.copyfile(PROGRAM, folder / "predict.mjs")
    (folder / "calls.mjs").write_text(_CALLS)
    done = subprocess.run([node(), folder / "calls.mjs"], input=json.dumps(calls), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
