"""Photographs that may be passed on: scikit-image and scikit-learn ship them, with their licences."""

from importlib.util import find_spec
from pathlib import Path

SAMPLES = {
    "skimage/data/coffee.png": "Rachel Michetti, CC0",
    "skimage/data/chelsea.png": "Stefan van der Walt, CC0",
    "sklearn/datasets/images/china.jpg": "danielbuechele (flickr.com/photos/danielbuechele/6061409035), CC BY 2.0",
    "sklearn/datasets/images/flower.jpg": "vultilion (flickr.com/photos/vultilion/6056698931), CC BY 2.0",
    "skimage/data/rocket.jpg": "SpaceX, public domain",
    "skimage/data/clock_motion.png": "Stefan van der Walt, public domain",
    "skimage/data/hubble_deep_field.jpg": "NASA, public domain",
}
"""Who took them, and on which terms; none shows a person."""


def samples() -> list[tuple[Path, dict, str]]:
    """The photographs that are installed: path, consensus by task (nobody was asked), and credit."""
    places = {name: find_spec(name.partition("/")[0]) for name in SAMPLES}
    found = [(Path(spec.origin or "").parents[1] / name, {}, f"Photograph: {SAMPLES[name]}")
             for name, spec in places.items() if spec]
    return [one for one in found if one[0].is_file()]
