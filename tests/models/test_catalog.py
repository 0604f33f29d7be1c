import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.model import Model
from fieldmark.models import catalog
from fieldmark.models.catalog import known_models, matching_models, refuse_unknown
from fieldmark.models.cost import macs, parameters
from fieldmark.models.factory import TORCHVISION, build_model, describe, model_names

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "catalog.py"


def test_the_table_is_whole():
    spec = importlib.util.spec_from_file_location("benchmarks_catalog", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert {model.name: model.line for model in known_models()} == script.LINES
    assert [model.parameters for model in known_models()] == sorted(model.parameters for model in known_models())
    assert set(TORCHVISION) <= script.LINES.keys()


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenetv3_small_050", "efficientnet_b0"])
def test_the_table_tells_the_truth(name):
    stored = next(model for model in known_models() if model.name == name)
    built = build_model(Model(name=name, weights="none"), 1000, stored.size, 0).model
    assert (parameters(built)[0], macs(built, stored.size)) == (stored.parameters, stored.macs)
    assert describe(name) == (stored.size, stored.pretrained)


def test_figures_as_text():
    stored = next(model for model in known_models() if model.name == "efficientnet_b0")
    assert stored.figures() == ("5.29 M", "386 M", "224", "yes")


def test_models_by_pattern():
    assert [model.name for model in matching_models("squeezenet")] == ["squeezenet1_0", "squeezenet1_1"]
    listed = {model.name: model for model in matching_models("resnet1*")}
    assert listed["resnet18"].parameters == 11_689_512 and listed["resnet10t"].parameters is None
    assert listed["resnet10t"].figures() == ("", "", "176", "yes")
    assert "seresnet18" not in listed


def test_a_pattern_without_a_match():
    with pytest.raises(InputError, match=r"no model matches 'efficentnet_b0'; did you mean .*efficientnet_b0"):
        matching_models("efficentnet_b0")


def test_the_table_needs_no_torch():
    code = "import sys; from fieldmark.models.catalog import known_models; known_models(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_name_that_can_be_built_is_refused():
    for name in model_names():
        refuse_unknown(name)
    for name in ("resnet50.a1_in1k", "vit_tiny_patch16_224_in21k", "hf-hub:timm/resnet50.a1_in1k", "timm/resnet50"):
        refuse_unknown(name)


def test_the_names_read_off_the_source_are_those_of_the_factory():
    assert set(model_names()) <= set(catalog._registered())
