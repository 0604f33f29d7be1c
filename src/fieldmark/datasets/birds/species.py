"""The species of the built-in birds: six genera that differ in build, and within each species told apart by one field mark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Colour = tuple[float, float, float]

BLACK: Colour = (34, 32, 36)
WHITE: Colour = (240, 236, 226)


@dataclass(frozen=True)
class Look:
    """What a grown male looks like. Lengths are in units of the trunk's length, colours are RGB in 0 … 255."""

    girth: float
    """Half the depth of the trunk."""
    head: float
    """Radius of the head."""
    neck: float
    """How far the head stands above the trunk's axis."""
    back: Colour
    belly: Colour
    bill: Colour
    bill_length: float
    bill_depth: float
    tail_length: float
    leg_length: float
    legs: Colour = (86, 66, 54)
    wing: float = 0.60
    """How far the folded wing reaches behind the middle of the trunk."""
    bill_curve: float = 0.0
    """How far the tip of the bill hangs below its line, in units of the bill's length."""
    tail: Literal["square", "notched", "forked"] = "notched"
    wing_bars: int = 0
    wing_patch: bool = False
    eye_ring: bool = False
    brow: bool = False
    crown_stripe: bool = False
    cap: bool = False
    mask: bool = False
    moustache: bool = False
    crest: bool = False
    throat: bool = False
    band: bool = False
    streaks: bool = False
    spots: bool = False
    rump: bool = False


@dataclass(frozen=True)
class Species:
    name: str
    genus: str
    look: Look


_BUILD = {
    "Warbler": Look(0.185, 0.145, 0.20, (122, 124, 74), (208, 196, 122), (72, 62, 56), 0.13, 0.040, 0.34, 0.22),
    "Finch": Look(0.235, 0.170, 0.20, (138, 96, 76), (206, 164, 140), (168, 146, 120), 0.14, 0.125, 0.30, 0.16),
    "Thrush": Look(0.225, 0.155, 0.24, (112, 92, 72), (222, 208, 184), (70, 60, 52), 0.17, 0.055, 0.42, 0.27),
    "Sandpiper": Look(
        0.190, 0.120, 0.30, (134, 122, 106), (232, 226, 214), (58, 52, 50), 0.62, 0.045, 0.14, 0.52, (62, 58, 54), 0.62, tail="square"
    ),
    "Swallow": Look(0.165, 0.140, 0.15, (66, 78, 106), (224, 206, 182), (48, 44, 46), 0.075, 0.050, 0.52, 0.10, wing=0.92, tail="square"),
    "Jay": Look(0.205, 0.165, 0.22, (98, 118, 148), (196, 196, 196), (50, 48, 52), 0.20, 0.085, 0.56, 0.24, (60, 56, 58)),
}

_MARKS: dict[str, dict[str, dict[str, Any]]] = {
    "Warbler": {
        "Wing-barred Warbler": {"wing_bars": 2},
        "Spectacled Warbler": {"eye_ring": True},
        "Browed Warbler": {"brow": True},
        "Masked Warbler": {"mask": True},
    },
    "Finch": {
        "Capped Finch": {"cap": True},
        "Streaked Finch": {"streaks": True},
        "Collared Finch": {"band": True},
        "Patch-winged Finch": {"wing_patch": True},
    },
    "Thrush": {
        "Spotted Thrush": {"spots": True},
        "White-throated Thrush": {"throat": True},
        "Orange-billed Thrush": {"bill": (232, 138, 36)},
        "Ring-eyed Thrush": {"eye_ring": True},
    },
    "Sandpiper": {
        "Long-billed Sandpiper": {},
        "Curve-billed Sandpiper": {"bill_curve": 0.44},
        "Red-legged Sandpiper": {"legs": (222, 70, 44)},
        "Short-billed Sandpiper": {"bill_length": 0.24},
    },
    "Swallow": {
        "Fork-tailed Swallow": {"tail": "forked"},
        "Square-tailed Swallow": {},
        "Pale-rumped Swallow": {"rump": True},
        "Collared Swallow": {"band": True},
    },
    "Jay": {
        "Crested Jay": {"crest": True},
        "Stripe-crowned Jay": {"crown_stripe": True},
        "Moustached Jay": {"moustache": True},
        "Bar-winged Jay": {"wing_bars": 2},
    },
}


def _species(genus: str, index: int) -> Species:
    name, marks = list(_MARKS[genus].items())[index]
    return Species(name, genus, replace(_BUILD[genus], **marks))


GENERA = tuple(_MARKS)
SPECIES = tuple(_species(genus, index) for genus in GENERA for index in range(3))
"""Those that can be trained on, three of each genus in turn."""
UNSEEN_SPECIES = tuple(_species(genus, 3) for genus in GENERA)
"""One more of each genus, never in training: images of something unknown."""
