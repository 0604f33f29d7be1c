"""How many images a server answers for, beside what the same machine computes without one, and beside LitServe.

    python benchmarks/serving.py bundles/mine photos [--seconds 30] [--rounds 3] [--callers 8] [--contenders ...] [--long 300]

Everything works through the same JPEG files, in turn: each contender for some seconds, and again in the next round, so that all meet the
same machine. Callers are threads of a process of its own, each with one connection, that send the next image once the last is answered.

bare: the process of the callers itself decodes and computes, in as many threads as there are cores, each with the bundle's graph in one
thread: what there would be to gain from a server that cost nothing. answers: the same, with all decisions, such as whether an image is
unknown, as the servers make them: the same work.
fieldmark: `fieldmark serve`, to which images are sent in forms. fieldmark-1: the same with --max-batch 1. fieldmark-json: the same, to
which they are sent in JSON, in base64, as to litserve: LitServe with the same graph, decoding and decisions, one worker for each core.
(LitServe does not hand files of forms to its workers.)

Processor time is that of the server and of the callers together, for each image: where other work goes on, it says more than the rate.

--long is a load of so many seconds on `fieldmark` alone, with the memory of the server from minute to minute.

LitServe, which benchmarks/litserve_server.py starts, is not among the dependencies: pip install litserve.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

import fieldmark
from fieldmark.core.processor import available_cores

_WARM = 2.0
_BOUNDARY = "a-boundary-that-no-image-has"
_LITSERVE_PORT = 8765
_COMPARED = {("fieldmark", "bare"), ("fieldmark", "answers"), ("fieldmark", "fieldmark-1"), ("fieldmark-json", "litserve")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--contenders", nargs="+", default=["bare", "answers", "fieldmark", "fieldmark-1", "fieldmark-json", "litserve"])
    parser.add_argument("--long", type=float, default=0)
    parser.add_argument("--role", choices=("callers",), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--target", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == "callers":
        print(json.dumps(call(args)))
    elif args.long:
        for_long(args)
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    print(f"{available_cores()} cores, {args.callers} callers, {args.seconds:g} s in each of {args.rounds} rounds", flush=True)
    found: dict[str, list[dict]] = {name: [] for name in args.contenders}
    for number in range(args.rounds):
        # Turned around in every other round, so that what the machine does meanwhile favours none.
        for name in args.contenders if number % 2 == 0 else args.contenders[::-1]:
            with Contender(name, args) as contender:
                found[name].append(contender.called(args.seconds))
                print(f"round {number + 1}: {_line(name, [found[name][-1]])}", flush=True)
    print("\n| | images/s | p50 ms | p99 ms | processor ms | other than 200 |\n|---|---|---|---|---|---|")
    for name, results in found.items():
        print(_line(name, results))
    for one, other in itertools.permutations(found, 2):
        if (one, other) in _COMPARED:
            ratios = [ours["rate"] / theirs["rate"] for ours, theirs in zip(found[one], found[other], strict=True)]
            print(f"{one} / {other}: {np.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


def for_long(args: argparse.Namespace) -> None:
    with Contender("fieldmark", args) as contender:
        contender.called(5)
        memory, done = [contender.memory()], threading.Event()

        def watch() -> None:
            while not done.wait(15):
                memory.append(contender.memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        result = contender.called(args.long)
        done.set()
        watcher.join()
        print(f"{args.long:g} s: {_line('fieldmark', [result])}")
        print(f"memory, MiB, every 15 s: {', '.join(f'{each:.0f}' for each in memory)}")


def _line(name: str, results: list[dict]) -> str:
    rate, p50, p99, cpu = (float(np.median([each[key] for each in results])) for key in ("rate", "p50", "p99", "cpu"))
    others: dict[str, int] = {}
    for each in results:
        for status, count in each["others"].items():
            others[status] = others.get(status, 0) + count
    return f"| {name} | {rate:.1f} | {p50:.1f} | {p99:.1f} | {cpu:.2f} | {others or 'none'} |"


class Contender:
    """What does the work, started and stopped."""

    def __init__(self, name: str, args: argparse.Namespace):
        self.name, self.args = name, args
        self.process: subprocess.Popen[str] | None = None
        self.target = name

    def __enter__(self) -> Contender:
        if self.name.startswith("fieldmark"):
            batch = self.name.partition("-")[2]
            options = ["--max-batch", batch] if batch.isdecimal() else []
            command = [sys.executable, "-m", "fieldmark", "serve", str(self.args.bundle), "--port", "0", *options]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
            assert self.process.stderr is not None
            for line in self.process.stderr:
                if found := re.search(r"listening at http://(\S+)", line):
                    self.target = f"{found[1]}/v1/predict"
                    break
            threading.Thread(target=self.process.stderr.read, daemon=True).start()
        elif self.name == "litserve":
            command = [sys.executable, str(Path(__file__).with_name("litserve_server.py")), str(self.args.bundle), str(_LITSERVE_PORT)]
            self.process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, start_new_session=True
            )
            self.target = f"127.0.0.1:{_LITSERVE_PORT}/predict"
            try:
                _wait_for(self.target)
            except RuntimeError:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is None:
            return
        if self.name == "litserve":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.terminate()
        self.process.wait(30)

    def called(self, seconds: float) -> dict:
        args = self.args
        command = [sys.executable, __file__, str(args.bundle), str(args.photos), "--role", "callers", "--target", self.target]
        command += ["--json"] if self.name in ("fieldmark-json", "litserve") else []
        command += ["--seconds", str(seconds), "--callers", str(args.callers), "--images", str(args.images)]
        before = self.processor_time()
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        result["cpu"] = 1000 * (result["cpu"] + self.processor_time() - before) / result["sent"]
        return result

    def processor_time(self) -> float:
        """Seconds that all processes of the server have computed."""
        ticks = 0
        for file in Path("/proc").glob("[0-9]*/stat") if self.process is not None else ():
            with suppress(OSError):
                values = file.read_text().rpartition(")")[2].split()
                if int(values[2]) == self.process.pid:
                    ticks += int(values[11]) + int(values[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        assert self.process is not None
        return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[0]) / 1024


def _wait_for(target: str) -> None:
    host, _, _ = target.partition("/")
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        try:
            connection = http.client.HTTPConnection(host, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{target} does not answer")


def call(args: argparse.Namespace) -> dict:
    """Send images until the time is over; the first two seconds are not counted."""
    photos = sorted(path for path in args.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    step = max(1, len(photos) // args.images)
    data = [path.read_bytes() for path in photos[::step][: args.images]]
    latencies: list[float] = []
    sent = [0] * max(args.callers, available_cores())
    others: dict[str, int] = {}

    def work(caller: int, ask) -> None:  # type: ignore[no-untyped-def]
        number = caller
        while (began := time.monotonic()) < ends:
            status = ask(data[number % len(data)])
            if status == 200 and began >= begins:
                latencies.append(time.monotonic() - began)
            elif status != 200:
                others[str(status)] = others.get(str(status), 0) + 1
            sent[caller] += 1
            number += 1

    in_process = {"bare": bare, "answers": answers}.get(args.target)
    callers = args.callers if in_process is None else available_cores()
    asks = [over_http(args.target, args.json) for _ in range(callers)] if in_process is None else [in_process(args.bundle)] * callers
    begins, computed = time.monotonic() + _WARM, time.process_time()
    ends = begins + args.seconds
    with ThreadPoolExecutor(callers) as pool:
        for each in [pool.submit(work, *pair) for pair in enumerate(asks)]:
            each.result()
    seconds = time.monotonic() - begins
    p50, p99 = 1000 * np.percentile(latencies, [50, 99])
    cpu = time.process_time() - computed
    return {"rate": len(latencies) / seconds, "p50": p50, "p99": p99, "others": others, "cpu": cpu, "sent": sum(sent)}


def bare(path: Path):  # type: ignore[no-untyped-def]
    bundle = fieldmark.load_bundle(path, threads=1)
    bundle.session.warm_up()

    def ask(data: bytes) -> int:
        logits, _ = bundle.session(bundle.preprocess.pixels(data)[None])
        return 200 if len(logits) else 500

    return ask


def answers(path: Path):  # type: ignore[no-untyped-def]
    bundle = fieldmark.load_bundle(path, threads=1)
    bundle.session.warm_up()
    return lambda data: 200 if bundle.answerer.answer(data).classes else 500


def over_http(target: str, as_json: bool):  # type: ignore[no-untyped-def]
    host, _, path = target.partition("/")
    connection = http.client.HTTPConnection(host, timeout=60)
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'.encode()
    tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": "application/json" if as_json else f"multipart/form-data; boundary={_BOUNDARY}"}

    def ask(data: bytes) -> int:
        body = b'{"images": [{"data": "%b"}]}' % base64.b64encode(data) if as_json else head + data + tail
        connection.request("POST", f"/{path}", body, headers)
        response = connection.getresponse()
        response.read()
        return response.status

    return ask


if __name__ == "__main__":
    main()
