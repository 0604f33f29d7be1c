def test_a_link_that_leads_nowhere_is_answered_with_the_reason(finished_run, tmp_path):
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    for source in (tmp_path / "broken.png", tmp_path / "*.png"):
        (answer,) = finished_run.predict(source)
        assert answer.best is None and "No such file" in answer.note
