import csv

import pytest
from servers import Server

import fieldmark
from fieldmark.core.errors import InputError
from fieldmark.serving.feedback import Feedback


@pytest.fixture
def feedback(tmp_path):
    return Feedback.at(tmp_path / "kept")


def rows(folder):
    with (folder / "feedback.csv").open(newline="", encoding="utf-8") as stream:
        return [(row["path"], row["label"], row["answer"]) for row in csv.DictReader(stream)]


def test_corrected_images_are_kept_over_http_and_can_be_trained_on(bundle, images, tiny, tmp_path):
    with Server(bundle.path, "--feedback", tmp_path / "kept") as server:
        assert server.client.get("/v1/models").json()["feedback"] is True
        for number, image in enumerate(images):
            response = server.client.post(
                "/v1/feedback",
                files=[("image", ("../../x.png", image.read_bytes()))],
                data={"class": image.parent.name if number % 3 else "A new / bird", "answer": "Capped Finch"},
                headers={"x-fieldmark-token": server.token},
            )
            assert response.status_code == 201
        without = server.client.post("/v1/feedback", files=[("image", ("x", images[0].read_bytes()))], data={"class": "x"})
        assert without.status_code == 403
        for data in ({"class": ""}, {"class": "a\nb"}, {}):
            wrong = server.client.post(
                "/v1/feedback", files=[("image", ("x", images[0].read_bytes()))], data=data, headers={"x-fieldmark-token": server.token}
            )
            assert wrong.status_code == 422 and wrong.json()["error"]["message"].startswith("class: ")
    files = sorted(path for path in (tmp_path / "kept").rglob("*.png"))
    assert sorted(path.read_bytes() for path in files) == sorted(image.read_bytes() for image in images)
    labels = {label for _, label, _ in rows(tmp_path / "kept")}
    assert labels == {"A new / bird", *(image.parent.name for image in images)} and len(rows(tmp_path / "kept")) == len(images)
    overview = fieldmark.describe_dataset(tmp_path / "kept" / "feedback.csv")
    assert len(images) == overview.to_dict()["images"]


def test_a_server_without_feedback_keeps_nothing(server, images):
    response = server.client.post(
        "/v1/feedback", files=[("image", ("x", images[0].read_bytes()))], data={"class": "x"}, headers={"x-fieldmark-token": server.token}
    )
    assert response.status_code == 404 and "--feedback" in response.json()["error"]["hint"]


def test_the_last_correction_of_an_image_counts(feedback, images):
    data, other = (each.read_bytes() for each in images[:2])
    first = feedback.keep(data, "Wren", "Finch", "birds")
    feedback.keep(other, "Wren", "Finch", "birds")
    second = feedback.keep(data, "Robin", "Finch", "birds")
    assert first.startswith("Wren/") and second.startswith("Robin/") and first.endswith(".png")
    assert not (feedback.folder / first).exists() and (feedback.folder / second).read_bytes() == data
    assert [row[1] for row in rows(feedback.folder)] == ["Wren", "Robin"]
    assert feedback.keep(data, "Robin", "Finch", "birds") == second and len(rows(feedback.folder)) == 2


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("../up", "_up"),
        ("/etc", "_etc"),
        ("..", "_"),
        (".hidden", "hidden"),
        ("a/b\\c", "a_b_c"),
        ("CON:", "CON_"),
        ("Zaunkönig", "Zaunkönig"),
    ],
)
def test_folders_stay_inside(feedback, images, label, folder):
    kept = feedback.keep(images[0].read_bytes(), label, "", "birds")
    assert kept.partition("/")[0] == folder and (feedback.folder / kept).resolve().is_relative_to(feedback.folder.resolve())
    assert rows(feedback.folder)[0][1] == label


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "a\0b", "x" * 121, "\u202egnp"])
def test_names_that_cannot_be_a_class_are_refused(feedback, images, label):
    with pytest.raises(ValueError, match="a class has a name"):
        feedback.keep(images[0].read_bytes(), label, "", "birds")
    assert list(feedback.folder.iterdir()) == []


def test_a_file_is_no_folder_to_keep_images_in(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is not a folder"):
        Feedback.at(tmp_path / "file")
