import contextlib
import io
import re
import time

from rich.console import Console as RichConsole

from fieldmark.core.console import Console, duration, table


def test_text_goes_to_the_terminal_and_the_log(tmp_path):
    stream = io.StringIO()
    console = Console(stream=stream)
    console.say("before there is a folder")
    with console.logging_to(tmp_path / "train.log"):
        console.say("a [bold] class", table(None, ("name", "n"), [("x [red]", 1200)]))
    console.say("after")
    log = (tmp_path / "train.log").read_text()
    assert log.startswith("before there is a folder\na [bold] class\n")
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


def printed(width: int, *what) -> list[str]:
    stream = io.StringIO()
    console = RichConsole(file=stream, width=width)
    console.print(*what)
    return stream.getvalue().splitlines()


def test_a_table_fits_80_columns_and_neither_intervals_nor_words_break():
    interval, name = "1.2345  [0.1234, 2.3456]", "Chestnut-sided Warbler of the north"
    columns = ("class", "negative log-likelihood", "macro F1 %", "images of test")
    row = (name, interval, "80.7  [75.1, 86.2]", 12_000)
    lines = printed(80, table(None, columns, [row]))
    text = "\n".join(lines)
    assert all(len(line) <= 80 for line in lines)
    assert interval in text and "80.7  [75.1, 86.2]" in text and "12,000" in text
    assert all(word in text for word in (*name.split(), "log-likelihood", "images"))


def lines_of(monkeypatch, title: str, unit: str, *steps: tuple) -> str:
    """What is printed where there is no terminal, if each step takes ten seconds."""
    now = 50.0
    monkeypatch.setattr("fieldmark.core.console.time.monotonic", lambda: now)
    stream = io.StringIO()
    with Console(stream=stream).progress(title, unit) as advance:
        for step in steps:
            now += 10.0
            advance(*step)
    return stream.getvalue()


def test_the_time_left_of_the_whole_work_is_shown_where_it_is_known(monkeypatch):
    assert (
        lines_of(monkeypatch, "epoch 2/30", "steps", (5, 10, "9 images/s", 725))
        == "epoch 2/30: 5 of 10 steps, about 12 min 5 s left, 9 images/s\n"
    )


def wait_for(stream: io.StringIO) -> None:
    """Until something is written."""
    ends = time.monotonic() + 60
    while not stream.getvalue() and time.monotonic() < ends:
        time.sleep(0.01)


def test_of_what_is_done_no_time_is_left(monkeypatch):
    assert bar_after(monkeypatch, (4.0, 100)).endswith("100/100 25 files/s")
    assert lines_of(monkeypatch, "reading", "files", (100, 100)) == "reading: 100 of 100 files\n"


def test_without_a_terminal_the_first_line_of_progress_comes_soon_and_the_others_each_half_minute(monkeypatch):
    lines = lines_of(monkeypatch, "drawing", "birds", *((done, 8) for done in range(1, 9))).splitlines()
    assert [line.split(",")[0] for line in lines] == ["drawing: 1 of 8 birds", "drawing: 4 of 8 birds", "drawing: 7 of 8 birds"]


def test_without_a_terminal_what_has_counted_nothing_yet_is_named(monkeypatch):
    monkeypatch.setattr("fieldmark.core.console._FIRST_SECONDS", 0.05)
    stream = io.StringIO()
    console = Console(stream=stream)
    with console.progress("explaining", "images"):
        wait_for(stream)
    assert stream.getvalue() == "explaining …\n"
    with console.progress("predicting", "images") as advance:
        advance(1, 2)
        time.sleep(0.2)
    assert "predicting …" not in stream.getvalue()


def test_a_slow_rate_is_not_rounded_to_none(monkeypatch):
    assert bar_after(monkeypatch, (10.0, 4)).endswith("4/100 0.4 files/s 4 min 0 s left")


def test_a_bar_says_what_is_left_and_fits_80_columns():
    stream = io.StringIO()
    console = Console(stream=stream)
    console._terminal = RichConsole(file=stream, width=80, force_terminal=True, color_system=None)
    with console.progress("epoch 12/30", "steps") as advance:
        advance(123, 456, "1234 images/s, loss 1.234", 725)
    bar = next(line for line in re.split(r"[\r\n]", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue())) if "123/456" in line)
    assert bar.rstrip().endswith("1234 images/s, loss 1.234 12 min 5 s left") and len(bar) <= 80


def bar_after(monkeypatch, *steps: tuple[float, int]) -> str:
    """The bar of 100 files after it was told, at these seconds, of so many done."""
    now = 50.0
    monkeypatch.setattr("fieldmark.core.console.time.monotonic", lambda: now)
    stream = io.StringIO()
    console = Console(stream=stream)
    console._terminal = RichConsole(file=stream, width=80, force_terminal=True, color_system=None)
    with console.progress("reading", "files") as advance:
        for seconds, done in steps:
            now = 50.0 + seconds
            advance(done, 100)
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue()).strip())[-1]


def test_a_bar_has_its_rate_since_it_began_and_none_in_its_first_moments(monkeypatch):
    assert bar_after(monkeypatch, (0.01, 4), (0.02, 80)).endswith("80/100")
    assert bar_after(monkeypatch, (3.9, 10), (4.0, 80)).endswith("80/100 20 files/s 1 s left")


def test_columns_without_room_stand_in_a_table_below_and_names_are_whole():
    name = "random_erasing_and_flip"
    figures = ("81.3 [78.9, 83.6]", "+0.3 [-0.8, 1.4] *", "+1.3 [-0.9, 2.4]  ", "12 min 30 s")
    lines = printed(80, table("gains", ("rung", "test top-1 %", "over before", "over base", "time"), [(name, *figures)]))
    text = "\n".join(lines)
    assert all(len(line) <= 80 for line in lines)
    assert text.count(name) == 2 and text.count("gains") == 1
    assert all(text.count(figure.strip()) == 1 for figure in figures)


def test_text_beside_numbers_is_wrapped_between_words_only():
    columns = ("split", "classes", "images", "smallest class", "largest class", "where from")
    row = ("train", 12, 1200, "Chestnut-sided_Warbler (12)", "Black-footed Albatross (33)", "from the data")
    lines = printed(80, table(None, columns, [row], columns[3:]))
    assert all(len(line) <= 80 for line in lines)
    assert all(word in "\n".join(lines) for text in (*columns, row[0], *row[3:]) for word in text.split())


def test_tables_in_a_pipe_are_as_wide_as_columns_says(monkeypatch):
    wide = table(None, ("name", "text"), [("a", "word " * 50)], ("text",))
    for given, width in (("60", 60), ("", 140), ("none", 140), ("0", 140)):
        monkeypatch.setenv("COLUMNS", given)
        stream = io.StringIO()
        Console(stream=stream).say(wide)
        assert width - 10 < max(map(len, stream.getvalue().splitlines())) <= width


def test_what_takes_long_is_said_while_it_goes_on_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr("fieldmark.core.console._PATIENCE_SECONDS", 0.05)
    stream = io.StringIO()
    console = Console(stream=stream)
    with console.waiting("loading"):
        wait_for(stream)
    assert stream.getvalue() == "loading …\n"


def test_what_is_soon_done_is_not_said(monkeypatch):
    stream = io.StringIO()
    with Console(stream=stream).waiting("loading"):
        pass
    time.sleep(0.1)
    assert stream.getvalue() == ""
