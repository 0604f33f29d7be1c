import pytest

from fieldmark.core.errors import InputError
from fieldmark.evaluation.run import find_images


def test_a_link_that_leads_nowhere_is_answered_with_the_reason(finished_run, tmp_path):
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    for source in (tmp_path / "broken.png", tmp_path / "*.png"):
        (answer,) = finished_run.predict(source)
        assert answer.best is None and "No such file" in answer.note


def test_a_pattern_that_matches_no_picture_is_an_error(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("no picture")
    with pytest.raises(InputError, match=r"there are no pictures in .*\*"):
        find_images(tmp_path / "*")
    (tmp_path / "two" / "a.png").touch()
    assert list(find_images(tmp_path / "*")) == [tmp_path / "two" / "a.png"]
