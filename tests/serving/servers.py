"""Servers in processes of their own, as a user starts them."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx


class Server:
    """`fieldmark serve` at a free port; what it says and logs is collected."""

    def __init__(self, *arguments, port=0, environment=None):
        command = [sys.executable, "-m", "fieldmark", "serve", *map(str, arguments), "--port", str(port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | (environment or {})
        )
        self.said, self._logged = [], []
        self._readers = [
            threading.Thread(target=self._collect, args=pair, daemon=True)
            for pair in ((self.process.stderr, self.said), (self.process.stdout, self._logged))
        ]
        for reader in self._readers:
            reader.start()
        self.url = self._wait_for(r"listening at (\S+)")
        self.token = self._wait_for(r"the token .*: (\S+)")
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=30, verify=False)

    def _collect(self, stream, into):
        for line in stream:
            into.append(line.rstrip("\n"))

    def _wait_for(self, pattern):
        ends = time.monotonic() + 60
        while time.monotonic() < ends and self.process.poll() is None:
            if found := re.search(pattern, "\n".join(self.said)):
                return found[1]
            time.sleep(0.02)
        raise RuntimeError(f"the server did not start: {self.said}")

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    @property
    def logged(self):
        return [json.loads(line) for line in list(self._logged)]

    def predict(self, data, **params):
        return self.client.post("/v1/predict", content=data, params=params)

    def wait_until(self, happened):
        ends = time.monotonic() + 20
        while not happened():
            assert time.monotonic() < ends, self.said
            time.sleep(0.02)

    def stop(self, number=signal.SIGTERM):
        """Its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        for reader in self._readers:
            reader.join(5)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.client.close()
