import pytest

from fieldmark.core.recipe.fields import keys
from fieldmark.core.recipe.load import load_recipe


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["schedule=step", "schedule.every=30"], "schedule.every (30) is never reached within train.epochs (30)"),
        (["schedule=multi-step", "schedule.after=[15, 30]"], "schedule.after: epoch 30 is not before the end of train.epochs (30)"),
        (["schedule=step", "stages=[{epochs: 20, trainable: [head]}, {}]", "schedule.every=20"], "within any stage (20)"),
    ],
)
def test_steps_of_the_rate_that_are_never_reached_are_refused(settings, said, problems):
    assert said in problems(*settings)[0]


def test_steps_of_the_rate_count_over_stages_that_continue():
    stages = "stages=[{epochs: 20, trainable: [head]}, {restart: false}]"
    assert load_recipe("default", ["schedule=step", "schedule.every=29", stages]).schedule.every == 29


@pytest.mark.parametrize(
    ("setting", "said", "together"),
    [
        ("data.fold=1", "data.fold has no effect without data.folds; set data.folds", {"data.fold", "data.folds"}),
        ("data.fold=3 data.folds=3", "data.fold=3 is not one of the 3 folds", {"data.fold", "data.folds"}),
        ("optim=sgd optim.momentum=0", "optim.nesterov needs optim.momentum above 0", {"optim.nesterov", "optim.momentum"}),
        (
            "optim=adam optim.decay_norm_and_bias=true",
            "optim.decay_norm_and_bias has no effect without weight decay; set optim.weight_decay above 0",
            {"optim.decay_norm_and_bias", "optim.weight_decay"},
        ),
        (
            "loss.label_smoothing=0 loss.smoothing_over=others",
            "loss.smoothing_over has no effect without label smoothing; set loss.label_smoothing above 0",
            {"loss.smoothing_over", "loss.label_smoothing"},
        ),
        (
            "schedule.warmup_epochs=0 schedule.warmup_factor=0.5",
            "schedule.warmup_factor has no effect without a warmup; set schedule.warmup_epochs above 0",
            {"schedule.warmup_factor", "schedule.warmup_epochs"},
        ),
        ("schedule.warmup_epochs=30", "leaves nothing of train.epochs (30)", {"schedule.warmup_epochs", "train.epochs"}),
        ("schedule=step schedule.every=30", "is never reached within train.epochs (30)", {"schedule.every", "train.epochs"}),
        ("train.micro_batch=64", "train.micro_batch (64) has no effect", {"train.micro_batch", "train.batch"}),
        (
            "train.batch=1 augment.mix=mixup",
            "augment.mix has no effect on batches of one image; raise train.batch",
            {"augment.mix.name", "train.batch"},
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(setting, said, together, refused):
    (problem,) = refused(*setting.split())
    assert said in str(problem)
    assert set(problem.keys) == together <= keys()


def test_a_refused_value_comes_with_where_it_was_written(refused, tmp_path):
    (tmp_path / "r.yaml").write_text("augment:\n  crop:\n    name: random-resized\n    area: [0.5, 2]\n")
    (problem,) = refused(recipe=tmp_path / "r.yaml")
    assert (problem.place, problem.origin) == ("augment.crop.area", f"{tmp_path / 'r.yaml'}, line 4")
    assert problem.remedy == "use augment.zoom to shrink it"
