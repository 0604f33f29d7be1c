"""A contact sheet of the built-in birds: one of every species, by genus, with names."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from fieldmark.core import randomness
from fieldmark.datasets.birds.scene import individual, photograph
from fieldmark.datasets.birds.species import GENERA, SPECIES, UNSEEN_SPECIES

_GAP, _CAPTION = 8, 20


def contact_sheet(size: int = 160, seed: int = 0) -> Image.Image:
    """One row per genus, the species that is never trained on last; every bird `size` x `size` pixels."""
    rows = [[species for species in (*SPECIES, *UNSEEN_SPECIES) if species.genus == genus] for genus in GENERA]
    across, down = size + _GAP, size + _CAPTION + _GAP
    sheet = Image.new("RGB", (across * len(rows[0]) + _GAP, down * len(rows) + _GAP), "white")
    brush, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for row, kin in enumerate(rows):
        for column, species in enumerate(kin):
            x, y = _GAP + column * across, _GAP + row * down
            bird = individual(species.look, randomness.key(seed, "sheet", species.name))
            sheet.paste(photograph(bird, size, randomness.key(seed, "sheet", species.name, "picture")).image, (x, y))
            unseen = " (unseen)" if species in UNSEEN_SPECIES else ""
            brush.text((x + size / 2, y + size + 3), f"{species.name}{unseen}", fill=(40, 40, 40), font=font, anchor="ma")
    return sheet
