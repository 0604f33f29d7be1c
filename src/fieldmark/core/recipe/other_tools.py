"""What other tools call a setting of the recipe, so that whoever types their word is told ours.

The words are those of timm, Ultralytics, fastai, mmpretrain, torchvision's references and Hugging Face's trainer.
"""

from __future__ import annotations

import re

_WORDS: dict[str, str] = {
    "train.epochs": "epochs epoch num_epochs n_epochs max_epochs num_train_epochs e",
    "train.batch": "batch batch_size bs b train_batch_size per_device_train_batch_size samples_per_gpu",
    "evaluate.batch": "validation_batch_size val_batch_size test_batch_size per_device_eval_batch_size",
    "train.seed": "seed random_seed random_state",
    "train.patience": "patience early_stopping early_stopping_patience",
    "train.device": "device accelerator",
    "train.threads": "threads workers num_workers j",
    "train.precision": "precision amp fp16 bf16 half mixed_precision amp_dtype",
    "train.memory_format": "channels_last memory_format",
    "train.clip_norm": "clip_grad grad_clip gradient_clip_val max_grad_norm clip_grad_norm",
    "train.log_every": "log_interval logging_steps print_freq log_every_n_steps",
    "train.tensorboard": "tensorboard log_tb",
    "optim.name": "opt optim optimizer optimiser",
    "optim.lr": "lr lr0 learning_rate base_lr lr_max",
    "optim.momentum": "momentum",
    "optim.weight_decay": "weight_decay wd",
    "schedule.name": "sched scheduler lr_scheduler lr_scheduler_type lr_schedule",
    "schedule.warmup_epochs": "warmup_epochs warmup lr_warmup_epochs",
    "model.name": "model arch a architecture backbone encoder model_name",
    "model.weights": "weights pretrained checkpoint initial_checkpoint load_from ckpt pretrained_weights",
    "model.dropout": "dropout drop",
    "model.drop_path": "drop_path drop_path_rate",
    "data.size": "imgsz img_size image_size input_size size img resolution train_crop_size",
    "data.val_fraction": "val_split valid_pct validation_split val_fraction val_pct",
    "data.splits": "splits",
    "loss.label_smoothing": "smoothing label_smoothing",
    "augment.flip": "hflip fliplr horizontal_flip",
    "augment.rotate": "degrees rotation",
    "augment.hue": "hsv_h",
    "augment.saturation": "hsv_s",
    "augment.brightness": "hsv_v",
    "augment.policy.name": "aa auto_augment autoaugment",
    "augment.erase.name": "reprob random_erasing random_erase erasing",
    "augment.mix.name": "mixup cutmix mix",
    "ema.name": "model_ema ema",
    "ema.decay": "model_ema_decay ema_decay",
}
_KEYS = {word: key for key, words in _WORDS.items() for word in words.split()}
_VALUES: dict[str, dict[str, str]] = {
    "train.device": {"gpu": "cuda", "cuda:0": "cuda", "0": "cuda"},
    "train.precision": {"": "auto", "true": "auto", "fp16": "bfloat16", "bf16": "bfloat16", "float16": "bfloat16", "32": "float32"},
    "train.memory_format": {"": "channels-last", "true": "channels-last"},
    "train.tensorboard": {"": "true"},
    "model.weights": {"": "pretrained", "true": "pretrained", "false": "none"},
    "ema.name": {"": "exponential", "true": "exponential", "false": "none"},
    "augment.policy.name": {
        "": "trivial",
        "ta_wide": "trivial",
        "ra": "rand",
        "rand": "rand",
        "randaugment": "rand",
        "original": "auto",
        "v0": "auto",
    },
}
"""Their values in our words; "" is an option without one."""
_SWITCHES = frozenset(
    ("amp", "fp16", "bf16", "half", "mixed_precision", "pretrained", "channels_last", "tensorboard", "log_tb", "model_ema", "ema")
)
_ERASE = "augment.erase.name=noise augment.erase.probability={}"
_WITH_NUMBER = {
    "mixup": "augment.mix.name=mixup augment.mix.alpha={}",
    "cutmix": "augment.mix.name=cutmix augment.mix.alpha={}",
    **dict.fromkeys(("reprob", "random_erasing", "random_erase", "erasing"), _ERASE),
}
"""Words that are a choice and its number at once."""


def key_elsewhere(word: str) -> str | None:
    """The recipe key of what other tools call `word`, such as "imgsz"; None if no setting is called so."""
    return _KEYS.get(_plain(word))


def takes_value(word: str, value: str) -> bool:
    """Whether `value`, typed after their option, belongs to it: not after a switch, such as --pretrained."""
    return _plain(word) not in _SWITCHES or value.lower() in ("true", "false")


def typed_here(word: str, value: str) -> str | None:
    """What to type for their `--word value`, such as "train.epochs=5"; None if no setting is called so. `value` may be ""."""
    plain = _plain(word)
    if plain in _WITH_NUMBER and value:
        return _WITH_NUMBER[plain].format(value)
    if (key := _KEYS.get(plain)) is None:
        return None
    ours = _VALUES.get(key, {})
    return f"{key}={ours.get(value.lower()) or ours.get(value.lower().partition('-')[0]) or value or '...'}"


def _plain(word: str) -> str:
    return re.sub(r"[-.]", "_", word.lower().lstrip("-"))
