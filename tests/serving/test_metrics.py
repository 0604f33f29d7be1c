import re

import numpy as np
import pytest
from servers import Server

from fieldmark.answering.answer import Answer
from fieldmark.answering.predictor import OnVal
from fieldmark.serving.drift import Drift


def figure(text, name, **labels):
    wanted = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    found = re.search(rf"^{name}{{{re.escape(wanted)}}} (\S+)$" if labels else rf"^{name} (\S+)$", text, re.MULTILINE)
    return None if found is None else float(found[1])


def test_what_happened_is_counted(bundle, images):
    with Server(bundle.path) as server:
        answers = [server.predict(each.read_bytes()).json()["answers"][0] for each in images]
        server.client.post("/v1/predict", files=[("image", ("a", b"x")), ("image", ("b", images[0].read_bytes()))])
        text = server.client.get("/metrics").text
    answers.append(answers[0])
    assert figure(text, "fieldmark_request_seconds_count", route="/v1/predict", status="200") == len(answers)
    assert figure(text, "fieldmark_batch_images_sum", model="birds") == len(answers)
    assert figure(text, "fieldmark_queue_images", model="birds") == 0 and figure(text, "fieldmark_shed_total") == 0
    unknown = sum(each["unknown"] for each in answers)
    told = [figure(text, "fieldmark_answers_total", answer=each, model="birds") or 0 for each in ("unknown", "known", "unreadable")]
    assert told == [unknown, len(answers) - unknown, 1]
    confidence = np.mean([each["classes"][0]["probability"] for each in answers])
    assert figure(text, "fieldmark_confidence", model="birds") == pytest.approx(confidence, abs=1e-6)
    assert figure(text, "fieldmark_confidence_drift", model="birds") == pytest.approx(confidence - bundle.on_val.confidence, abs=1e-6)
    assert figure(text, "fieldmark_unknown_drift", model="birds") == pytest.approx(unknown / len(answers) - bundle.on_val.unknown, abs=1e-6)


def test_what_answers_were_like_for_val(bundle, finished_run):
    val = finished_run.predictions("val")
    expected = finished_run.probabilities(val.logits).max(axis=1).mean()
    assert finished_run.on_val.confidence == pytest.approx(expected)
    assert finished_run.on_val.unknown == finished_run.answerer.unknown(val.logits, val.features).mean()
    assert 0 <= bundle.on_val.confidence <= 1 and bundle.on_val.unknown in (0.0, pytest.approx(0.05))


def collected(drift):
    return {family.name.removeprefix("fieldmark_"): sample.value for family in drift.collect() for sample in family.samples}


def test_drift_is_that_of_the_last_thousand_answers():
    drift = Drift()
    drift.expect("m", OnVal(0.5, 0.1))
    assert collected(drift) == {"answers_in_window": 0}
    drift.add("m", [Answer(classes=("a",), probabilities=np.array([0.1]), unknown=True)] * 500 + [Answer(note="unreadable")])
    assert collected(drift)["unknown_drift"] == pytest.approx(0.9)
    drift.add("m", [Answer(classes=("a",), probabilities=np.array([0.75]), unknown=False)] * 1000)
    found = collected(drift)
    assert found["confidence"] == pytest.approx(0.75) and found["confidence_drift"] == pytest.approx(0.25)
    assert found["unknown_share"] == 0 and found["unknown_drift"] == pytest.approx(-0.1) and found["answers_in_window"] == 1000
    drift.expect("m", OnVal())
    drift.add("m", [Answer(classes=("a",), probabilities=np.array([0.75]))])
    assert collected(drift) == {"answers_in_window": 1, "confidence": 0.75}
