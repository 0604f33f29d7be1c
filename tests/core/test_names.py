from __future__ import annotations

from fieldmark.core.names import some


def test_of_many_names_some_are_written() -> None:
    assert (some("abc", 3), some("abcd", 3)) == ("a, b, c", "a, b, c and 1 more")
    assert some(["name"] * 1003, 1) == "name and 1,002 more"
