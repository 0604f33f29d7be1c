from __future__ import annotations

from pathlib import Path

from fieldmark.core.names import distinct_names, in_order, nearest, some, suggest


def test_of_many_names_some_are_written() -> None:
    assert (some("abc", 3), some("abcd", 3)) == ("a, b, c", "a, b, c and 1 more")
    assert some(["name"] * 1003, 1) == "name and 1,002 more"


def test_numbers_are_in_the_order_of_their_values() -> None:
    assert in_order(["10", "9", "1", "07", "7"]) == ["1", "07", "7", "9", "10"]
    assert in_order(["1.5", "-2", "10", "9"]) == ["-2", "1.5", "9", "10"]
    assert in_order(["10", "9", "nine"]) == ["10", "9", "nine"]


def test_names_tell_paths_apart() -> None:
    given = [Path("/x/a/run"), Path("/x/b/run"), Path("/x/b/other"), Path("/y/b/run")]
    assert distinct_names(given) == ["a/run", "x/b/run", "other", "y/b/run"]
    assert distinct_names([Path("/run"), Path("/a/run")]) == ["/run", "a/run"]


def test_the_nearest_word_is_found_whatever_its_case() -> None:
    assert nearest("jpg", ["PNG", "JPEG"]) == ["JPEG"] and nearest("JPG", ["png", "jpeg"]) == ["jpeg"]
    assert nearest("label", ["Label", "LABEL"], most=2) == ["Label"]
    assert nearest("house finch", ["Purple Finch"]) == ["Purple Finch"] and nearest("house finch", ["Purple Finch"], likeness=0.8) == []


def test_a_suggestion_ends_a_message_or_is_empty() -> None:
    assert f"there is no rian{suggest('rian', ['rain', 'fog'])}" == "there is no rian; did you mean rain?"
    assert suggest("layer5", ["layer4", "layer3", "layer1"]) == "; did you mean layer4 or layer3?"
    assert suggest("x", ["rain", "fog"]) == "" == suggest("x", [])
