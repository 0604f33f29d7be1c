import asyncio
import threading
import time

import pytest

from fieldmark.serving.batcher import Batcher, Closed, Expired, Overloaded, retry_after


def decode(value):
    if value == "bad":
        raise ValueError("it is bad")
    return value


def doubled(values):
    return [2 * value for value in values]


@pytest.fixture
def batcher():
    made = []

    def make(**options):
        settings = {"decode": decode, "computes": [doubled], "threads": 2, "max_batch": 4, "capacity": 100} | options
        made.append(Batcher(**settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def held(compute=doubled):
    """A computation that waits until it is let go, and what lets it go."""
    go = threading.Event()

    def wait(values):
        assert go.wait(10)
        return compute(values)

    return wait, go


def test_results_are_in_order_and_what_cannot_be_decoded_is_its_own_result(batcher):
    found = asyncio.run(batcher().submit([1, "bad", *range(2, 40)], 10))
    assert found[0] == 2 and str(found[1]) == "it is bad" and found[2:] == [2 * value for value in range(2, 40)]
    assert asyncio.run(batcher().submit([], 10)) == []


def test_what_waits_is_computed_together_and_no_more_than_the_most(batcher):
    sizes = []
    compute, go = held()
    made = batcher(computes=[compute], observe=sizes.append)

    async def scenario():
        work = asyncio.gather(*(made.submit([number], 10) for number in range(9)))
        await asyncio.sleep(0.2)
        go.set()
        return await work

    assert asyncio.run(scenario()) == [[2 * number] for number in range(9)]
    assert sum(sizes) == 9 and sizes[1] == 4 and max(sizes) == 4


def test_what_waits_is_shared_among_the_computations_that_are_free(batcher):
    sizes, both = [], threading.Barrier(2, timeout=10)

    def compute(values):
        both.wait()
        return values

    made = batcher(computes=[compute, compute], max_batch=8, max_wait=0.5, observe=sizes.append)
    assert asyncio.run(made.submit(list(range(6)), 10)) == list(range(6))
    assert sizes == [3, 3]


def test_one_image_does_not_wait_for_others_unless_it_is_told_to(batcher):
    sizes = []
    slow = batcher(max_wait=5, observe=sizes.append)

    async def four_in_a_row():
        work = []
        for number in range(4):
            work.append(asyncio.ensure_future(slow.submit([number], 10)))
            await asyncio.sleep(0.02)
        return await asyncio.gather(*work)

    assert asyncio.run(four_in_a_row()) == [[0], [2], [4], [6]] and sizes == [4]


def test_what_waited_long_enough_is_computed_alone(batcher):
    assert asyncio.run(batcher(max_wait=0.05).submit([3], 10)) == [6]


def test_no_more_goes_on_at_once_than_there_are_computations(batcher):
    running, most, lock = 0, 0, threading.Lock()

    def compute(values):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return values

    made = batcher(computes=[compute, compute], threads=4, max_batch=1)
    assert asyncio.run(made.submit(list(range(20)), 10)) == list(range(20))
    assert most == 2


def test_what_does_not_fit_is_turned_away_and_the_rest_is_done(batcher):
    compute, go = held()
    made = batcher(computes=[compute], capacity=3)

    async def scenario():
        first = asyncio.ensure_future(made.submit([1, 2], 10))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await made.submit([3, 4], 10)
        second = asyncio.ensure_future(made.submit([5], 10))
        await asyncio.sleep(0)
        go.set()
        return await first, await second

    assert asyncio.run(scenario()) == ([2, 4], [10])
    assert made.pending == 0


def test_what_would_come_too_late_is_turned_away_at_once(batcher):
    def slow(values):
        time.sleep(0.05 * len(values))
        return values

    made = batcher(computes=[slow], max_batch=1)

    async def scenario():
        await made.submit([1], 10)
        first = asyncio.ensure_future(made.submit(list(range(10)), 10))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as raised:
            await made.submit([1], 0.2)
        return await first, raised.value.seconds

    done, seconds = asyncio.run(scenario())
    assert done == list(range(10)) and seconds > 0.1
    assert made.waiting_time(10) > 0.4


def test_what_is_not_done_in_time_is_given_up_and_leaves_no_trace(batcher):
    compute, go = held()
    made = batcher(computes=[compute])

    async def scenario():
        with pytest.raises(Expired):
            await made.submit(list(range(20)), 0.1)
        go.set()
        return await made.submit([7], 10)

    assert asyncio.run(scenario()) == [14] and made.pending == 0


def test_a_computation_that_fails_is_the_result_of_its_images_alone(batcher):
    def compute(values):
        if 3 in values:
            raise RuntimeError("no three")
        return values

    found = asyncio.run(batcher(computes=[compute], max_batch=1).submit([1, 3, 5], 10))
    assert found[0] == 1 and str(found[1]) == "no three" and found[2] == 5


def test_what_was_accepted_is_done_before_it_is_closed(batcher):
    compute, go = held()
    made = batcher(computes=[compute])

    async def scenario():
        work = asyncio.ensure_future(made.submit(list(range(10)), 10))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(made.close))
        await asyncio.sleep(0.05)
        with pytest.raises(Closed):
            await made.submit([1], 10)
        assert not closing.done()
        go.set()
        await closing
        return await work

    assert asyncio.run(scenario()) == [2 * value for value in range(10)]


@pytest.mark.parametrize(("seconds", "whole"), [(0.0, 1), (0.3, 1), (1.0, 1), (1.2, 2), (59.01, 60)])
def test_callers_are_asked_to_wait_whole_seconds(seconds, whole):
    assert retry_after(seconds) == whole
