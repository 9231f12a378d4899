"""The colours of the pictures and of the page: quiet ground, bright ids, pale classes.

Probability has viridis, whose steps differ in lightness and so for the colour-blind too.
"""

from __future__ import annotations

import colorsys

import numpy as np

Colour = tuple[int, int, int]

PAPER = (22, 26, 33)
GROUND = (31, 36, 45)
INK = (226, 230, 236)
FAINT = (128, 138, 152)
ACCENT = (255, 200, 87)
# Quiet tones of the map layers, drawn in this order.
MAP_TONES = {
    "drivable": (44, 51, 62),
    "crosswalk": (66, 74, 88),
    "lane_centre": (62, 71, 85),
    "road_edge": (98, 109, 126),
}
# Of viridis (Smith and van der Walt, matplotlib), from its lower end to its upper one.
_VIRIDIS = (
    (68, 1, 84),
    (70, 50, 126),
    (54, 92, 141),
    (39, 127, 142),
    (31, 161, 135),
    (74, 193, 109),
    (160, 218, 57),
    (253, 231, 37),
)
OPAQUE_PERCENT = 25  # from here on the map is not seen through a probability


def id_colour(id_: int) -> Colour:
    """The colour of an instance id, the same wherever it is drawn; neighbours differ most."""
    return _shade(id_, (0.60, 0.70, 0.54)[id_ % 3], 0.78)


def class_colour(label: int) -> Colour:
    """The colour of a class, drawn in place of ids that are not known: paler than any id's."""
    return _shade(label, 0.74, 0.34)


def probability_shades() -> list[tuple[int, int, int, int]]:
    """Red, green, blue and opacity of 0 to 100 per cent: nothing is seen of 0."""
    share = np.linspace(0, 1, 101)
    steps = np.linspace(0, 1, len(_VIRIDIS))
    parts = [np.interp(share, steps, part) for part in zip(*_VIRIDIS, strict=True)]
    opacity = 255 * np.minimum(100 * share / OPAQUE_PERCENT, 1)
    shades = np.rint(np.stack([*parts, opacity], axis=1)).astype(int).tolist()
    return [(red, green, blue, alpha) for red, green, blue, alpha in shades]


def dim(colour: Colour) -> Colour:
    """A colour for a trail, nearer to the ground."""
    red, green, blue = ((2 * part + tone) // 3 for part, tone in zip(colour, GROUND, strict=True))
    return red, green, blue


def _shade(number: int, lightness: float, saturation: float) -> Colour:
    hue = (number * 0.61803398875) % 1.0  # the golden ratio never comes close to itself again
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)
