import json

from fieldmark.core.recipe.fields import choices, fields, json_schema
from fieldmark.core.recipe.load import load_recipe


def test_fields_cover_the_recipe():
    recipe = load_recipe("default")
    dumped = recipe.model_dump(mode="json")
    for field in (field for field in fields() if not field.in_list):
        level, *_ = [dumped]
        for part in field.key.split(".")[:-1]:
            level = level[part]
        if field.variant in (None, level.get("name")):
            assert field.key.split(".")[-1] in level
        assert field.meaning and field.type
    of_data, of_augment = (
        {"data.crop", "data.subset", "data.label_noise"},
        {"augment.crop", "augment.policy", "augment.erase", "augment.mix"},
    )
    assert set(choices()) == {"optim", "schedule", "loss", "ema", "model.head"} | of_data | of_augment


def test_the_json_schema_describes_every_section():
    schema = json.loads(json.dumps(json_schema()))
    assert {"extends", "data", "model", "optim", "train"} <= set(schema["properties"])
