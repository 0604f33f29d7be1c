"""Why an image is answered as it is: the square that the network saw, where in it the evidence lies, and the nearest training images."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from fieldmark.bundles.bundle import Bundle
from fieldmark.bundles.heat_map import heat_map
from fieldmark.scoring.neighbours import directions, nearest
from fieldmark.serving.models import Result, ServedModel
from fieldmark.serving.schema import EvidenceMap, Explanation, ImageAnswer, TrainingImage

_NEAREST = 4


def explain(model: ServedModel, result: Result, name: str) -> Explanation:
    """Of a result that has an answer."""
    seen = Image.fromarray(np.ascontiguousarray(result.seen.transpose(1, 2, 0)))
    return Explanation(
        answer=ImageAnswer.of(result.answer, name),
        map=_map(model, result),
        seen=_uri(seen, "jpeg", quality=90),
        neighbours=_neighbours(model, result),
    )


def _map(model: ServedModel, result: Result) -> EvidenceMap | None:
    """None also if scaling made another class the likeliest than the one that the map is of."""
    if result.map is None or model.class_names[int(result.logits.argmax())] != result.answer.best:
        return None
    values = (255 * heat_map(result.map, result.seen.shape[-1])).round().astype(np.uint8)
    return EvidenceMap(png=_uri(Image.fromarray(values), "png"))


def _neighbours(model: ServedModel, result: Result) -> list[TrainingImage]:
    """The nearest training images of the likeliest class."""
    if not isinstance(model.predictor, Bundle) or (train := model.predictor.neighbours) is None or result.answer.best is None:
        return []
    rows = nearest(train, result.features[None], model.class_names.index(result.answer.best), _NEAREST)[0]
    similar = directions(train.features[rows]) @ directions(result.features[None])[0]
    return [
        TrainingImage.model_validate(
            {
                "class": result.answer.best,
                "path": str(train.ids[row]),
                "similarity": float(similarity),
                "thumbnail": f"data:image/jpeg;base64,{base64.b64encode(train.thumbnails[row]).decode()}"
                if train.thumbnails[row]
                else None,
            }
        )
        for row, similarity in zip(rows.tolist(), similar, strict=True)
    ]


def _uri(image: Image.Image, kind: str, **options: int) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
