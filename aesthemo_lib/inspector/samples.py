"""Photographs that may be passed on: scikit-image and scikit-learn ship them, with their licences."""

from importlib.util import find_spec
from pathlib import Path

SAMPLES = {
    "sklearn/datasets/images/china.jpg": "danielbuechele (flickr.com/photos/danielbuechele/6061409035), CC BY 2.0",
    "skimage/data/hubble_deep_field.jpg": "NASA, public domain",
    "sklearn/datasets/images/flower.jpg": "vultilion (flickr.com/photos/vultilion/6056698931), CC BY 2.0",
    "skimage/data/coffee.png": "Rachel Michetti, CC0",
    "skimage/data/chelsea.png": "Stefan van der Walt, CC0",
    "skimage/data/rocket.jpg": "SpaceX, public domain",
    "skimage/data/clock_motion.png": "Stefan van der Walt, public domain",
}
"""Who took them, and on which terms. None shows a person; the first one has an answer that a single cut turns."""


def samples() -> list[tuple[Path, dict, str]]:
    """The photographs that are installed: path, consensus by task (nobody was asked), and credit."""
    places = {name: find_spec(name.partition("/")[0]) for name in SAMPLES}
    listed = [(Path(spec.origin or "").parents[1] / name, {}, f"Photograph: {SAMPLES[name]}")
              for name, spec in places.items() if spec]
    return [one for one in listed if one[0].is_file()]
