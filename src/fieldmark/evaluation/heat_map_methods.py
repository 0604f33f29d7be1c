"""The names of the methods that heat maps are made by; `explanation.heat_maps` describes them."""

from __future__ import annotations

METHODS = ("grad-cam", "grad-cam++", "layer-cam", "rollout")
