"""What is said of a command line that cannot be parsed; the command to copy can be."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fieldmark.cli import app, main
from fieldmark.evaluation.run import Run


def said(command: str, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(command))
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err and captured.out == ""
    return captured.err


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("train photos --epochs 5 --device cpu --batch 16", "train photos train.epochs=5 train.device=cpu train.batch=16"),
        ("train photos -b 16 --lr=0.1 --wd 1e-4 --seed 3", "train photos train.batch=16 optim.lr=0.1 optim.weight_decay=1e-4 train.seed=3"),
        ("train --model resnet18 --pretrained photos", "train photos model.name=resnet18 model.weights=pretrained"),
        ("train --data 'my photos' --imgsz 224 --device 0", "train 'my photos' data.size=224 train.device=cuda"),
        ("train photos --opt adamw --sched cosine --amp", "train photos optim.name=adamw schedule.name=cosine train.precision=auto"),
        ("train photos --mixup 0.2", "train photos augment.mix.name=mixup augment.mix.alpha=0.2"),
        ("train photos --train.epochs 3 --optim-lr 0.1 --refit", "train photos train.epochs=3 optim.lr=0.1 train.refit=true"),
        ("train photos --output runs/x --cfg mine.yaml", "train photos --out runs/x --recipe mine.yaml"),
        ("demo --epochs 5", "demo train.epochs=5"),
        ("study run noise-floor birds --out x --epochs 3", "study run noise-floor birds --out x train.epochs=3"),
        ("predict --model runs/mine --source photos", "predict runs/mine photos"),
        ("study run aug.yaml --data cars --out s --dry-run --seed 3", "study run aug.yaml cars --out s --dry-run --seeds 3"),
        ("study run --out s aug.yaml --dataset cars", "study run --out s aug.yaml cars"),
        ("train photos --project {here}", "train photos --out {here}/NAME"),
        ("train photos --project new --name first --epochs 5", "train photos --out new/first train.epochs=5"),
        ("train photos --name first", "train photos --out runs/first"),
        ("submit runs/a --output o.csv --sample s.csv", "submit runs/a o.csv --like s.csv"),
        ("submit --model runs/a --output o.csv", "submit runs/a o.csv"),
        ("fit photos train.epochs=5", "train photos train.epochs=5"),
        ("val runs/a", "evaluate runs/a"),
        ("compare runs/a runs/b", "report runs/a runs/b --out comparison.html"),
    ],
)
def test_options_of_other_tools_are_answered_with_a_command_to_copy(typed, wanted, tmp_path, capsys):
    typed, wanted = typed.format(here=tmp_path), wanted.format(here=tmp_path)
    (command,) = (line.removeprefix("Type: fieldmark ") for line in said(typed, capsys).splitlines() if line.startswith("Type: "))
    assert command == wanted
    app.parse_args(command, exit_on_error=False, print_error=False)


def test_each_option_has_a_line_of_its_own(capsys):
    lines = said("train photos --epochs 5 --nonsense 3", capsys).splitlines()
    assert lines[:2] == [
        "fieldmark: train has no option --epochs; type train.epochs=5",
        "fieldmark: train has no option --nonsense",
    ]


def test_options_without_an_answer_are_left_out_of_the_command(tmp_path, capsys):
    text = said(f"train --augment {tmp_path} --epochs 5 --resume --nonsense 3", capsys)
    assert text.splitlines()[-1] == f"Type, without --augment, --resume, --nonsense: fieldmark train {tmp_path} train.epochs=5"
    assert "train has no option --resume: `fieldmark resume RUN` goes on" in text
    assert "train has no option --augment: augmentations are settings" in text


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("train data=photos", ("there is no file or folder data=photos", "without data=: photos")),
        ("predict runs/mine photo.jpg --device cpu", ("part of the run's recipe", "CUDA_VISIBLE_DEVICES=")),
        ("resume runs/mine --epochs 10", ("part of the run's recipe", "--recipe RUN/recipe.yaml train.epochs=10")),
        ("predict runs/mine photo.jpg --tpo 3", ("Did you mean --top?",)),
        ("calibrate runs/mine photos", ("calibrate does not take photos", "fieldmark calibrate runs/mine")),
        ("predict runs/mine", ("SOURCES is missing", "fieldmark predict runs/mine photo.jpg")),
        ("explain runs/mine --out x", ("IMAGES is missing", "fieldmark explain runs/mine")),
        ("report", ("RUNS is missing", "fieldmark report runs/mine")),
        ("train", ("DATA is missing", "fieldmark train photos")),
        ("study run", ("STUDY is missing", "fieldmark study run noise-floor")),
        ("ensemble runs/a runs/b --method mean", ("--out is missing", "--method mean --out")),
        ("predict runs/mine photo.jpg --top abc", ("--top", "`fieldmark predict --help`")),
        ("trian photos", ('Did you mean "train"?', "`fieldmark --help`")),
    ],
)
def test_what_is_missing_or_wrong_comes_with_something_to_copy(typed, wanted, capsys):
    text = said(typed, capsys)
    assert all(part in text for part in wanted), text


def test_a_file_that_looks_like_an_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.jpg").touch()
    text = said("predict runs/mine -dash.jpg", capsys)
    assert "-dash.jpg looks like an option, and is a file here" in text and "Name it ./-dash.jpg" in text


def test_standard_output_is_no_file(capsys):
    text = said("predict runs/mine photo.jpg --csv -", capsys)
    assert "files are named here" in text and "predict without --csv answers on standard output" in text


def test_a_number_below_zero_is_no_option(capsys):
    assert "has no option" not in said("train nowhere optim.lr=-1 -3", capsys)


def test_completion_is_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        main(["--install-completion", "--shell", "bash"])
    assert stop.value.code == 0
    (script,) = (tmp_path / ".local").rglob("fieldmark")
    assert "predict" in script.read_text() and str(script) in (tmp_path / ".bashrc").read_text()


@pytest.mark.skipif(shutil.which("bash") is None, reason="this system has no bash")
def test_bash_completes_names_of_files_where_there_is_nothing_else_to_offer(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["--install-completion", "--shell", "bash"])
    done = subprocess.run(["bash", "--norc", "-c", '. "$HOME/.bashrc"; complete -p fieldmark'], capture_output=True, text=True, check=True)
    assert done.stdout == "complete -o default -F _fieldmark fieldmark\n"


def test_a_path_whose_blanks_tore_it_apart_is_put_in_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "Parus major").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for command, whole in (
        ("train photos/Parus major train.epochs=3", "train 'photos/Parus major' train.epochs=3"),
        ("layouts photos/Parus major", "layouts 'photos/Parus major'"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(command.split())
        assert stop.value.code == 2 and capsys.readouterr().err.splitlines()[-1] == f"A path with blanks needs quotes: fieldmark {whole}"
    with pytest.raises(SystemExit):
        main(["train", "photos", "major"])
    assert "quotes" not in capsys.readouterr().err


def test_a_dataset_is_described_by_the_keys_that_training_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("finch/a", "finch/b", "wren/a"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").touch()
    described = []
    for by in (["data.class_depth=1"], ["--class-depth", "1"], ["data.class_depth=2"]):
        with pytest.raises(SystemExit) as stop:
            main(["layouts", str(tmp_path), *by, "--json"])
        described.append((stop.value.code, capsys.readouterr().out))
    assert described[0] == described[1] != described[2] and described[0][0] == 0
    assert "data.class_depth" in said(f"layouts {tmp_path} train.epochs=3", capsys)


def test_a_run_that_comes_second_is_put_first(tmp_path: Path, finished_run: Run, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "run").symlink_to(finished_run.path)
    monkeypatch.chdir(tmp_path)
    for command, better in (("predict new run", "predict run new"), ("explain new run --out why", "explain run new --out why")):
        assert said(command, capsys).splitlines()[-1] == f"The run comes first: fieldmark {better}"
    assert "comes first" not in said("predict new new", capsys)
