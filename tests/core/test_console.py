import contextlib
import io
import re

from fieldmark.core.console import Console, duration, table


def test_text_goes_to_the_terminal_and_the_log(tmp_path):
    stream = io.StringIO()
    console = Console(stream=stream)
    with console.logging_to(tmp_path / "train.log"):
        console.say("a [bold] class", table(None, ("name", "n"), [("x [red]", 1200)]))
    console.say("after")
    log = (tmp_path / "train.log").read_text()
    assert "a [bold] class" in stream.getvalue() and "a [bold] class" in log
    assert "x [red]" in log and "1,200" in log
    assert "after" in stream.getvalue() and "after" not in log


def test_quiet_prints_nothing_but_still_logs(tmp_path):
    stream = io.StringIO()
    console = Console(quiet=True, stream=stream)
    with console.logging_to(tmp_path / "train.log"), console.progress("work", "things") as advance:
        console.say("text")
        advance(1, 2)
    assert stream.getvalue() == "" and "text" in (tmp_path / "train.log").read_text()


def test_progress_away_from_a_terminal_is_plain_and_rare():
    stream = io.StringIO()
    with Console(stream=stream).progress("work", "things") as advance:
        for done in range(1000):
            advance(done, 1000)
    assert stream.getvalue() == ""


def test_work_says_its_time_once_it_is_done_and_nothing_if_it_fails():
    stream = io.StringIO()
    console = Console(stream=stream)
    with console.busy("counting"), contextlib.suppress(ValueError), console.timed("failing"):
        assert stream.getvalue() == ""
        raise ValueError
    assert re.fullmatch(r"counting: \d\.\d s\n", stream.getvalue())


def test_durations():
    assert [duration(s) for s in (0.25, 12.4, 200, 3900)] == ["0.2 s", "12 s", "3 min 20 s", "1 h 5 min"]
