"""Waiting for what other processes do."""

import time

PATIENCE = 120


def until(what, seconds=PATIENCE):
    patience = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < patience, "it took too long"
        time.sleep(0.05)


def all_ended(engine):
    """By its name, why each job ended; waits for all of them."""
    ended = []
    until(lambda: ended.extend(engine.ended()) or not engine.running)
    return {each.job.name: each.reason for each in ended}
