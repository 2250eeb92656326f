"""What a GPU alone can answer: its tests, and whole networks fine-tuned on a small copy of PARA.

``python -m bench.gpu <PARA> <folder>`` makes the copy, which travels to where the GPU is and goes into no commit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as tree
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from aesthemo_lib.data.decoding import decode
from aesthemo_lib.files import project_folder

from .child import Job

TESTS = "tests/bench/test_gpu.py"
WEIGHTS = "efficientnet_lite0.safetensors"
SIDE, QUALITY, PHOTOGRAPHS = 160, 85, {"Train": 4000, "Test": 1000}
METHODS = (("independent", None), ("shared_bottom", None), ("cross_branch", "diagonal"), ("cross_branch", "random"))
SEEDS = 20
"""More than time will allow."""


def tests(job: Job) -> Iterator[tuple]:
    """The tests that need a device, as pytest finds them."""
    report = job.folder / "tests.xml"
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", TESTS],
                   cwd=project_folder(), stdout=sys.stderr, env=os.environ | {"DEVICE": job.device.type})
    cases = list(tree.parse(report).iter("testcase"))
    failed = [case for case in cases if len(case)]
    lines = [f"- {case.get('name')}: {case[0].get('message', '')[:300]!r}" for case in failed]
    yield "tests_passed", [1 - len(failed) / max(len(cases), 1)], {"profile": lines or [f"- {len(cases)} passed"]}


def finetune(job: Job) -> Iterator[tuple]:
    """Seed after seed, each method once; finished runs are kept in out/gpu-runs, so that another call goes on.

    Raises:
        ValueError: without the copy of PARA.
    """
    from aesthemo_lib.training.config import Config
    from aesthemo_lib.training.runs import train

    if not job.root:
        raise ValueError("finetune: name the small copy of PARA, with ROOT=<folder> or --root; "
                         "python -m bench.gpu <PARA> <folder> makes it")
    weights = Path(job.root) / WEIGHTS
    settings = {"epochs": 4, "patience": 4, "weights": str(weights) if weights.exists() else "imagenet"}
    if job.small:
        settings = {"epochs": 1}
    values: dict[str, list[float]] = defaultdict(list)
    for seed in range(1 if job.small else SEEDS):
        for method, variant in METHODS:
            config = Config("para", method, variant, "smoke" if job.small else "teach", 0, seed, settings)
            run = train(config, project_folder() / "out" / ("gpu-small" if job.small else "gpu-runs"), job.root,
                        redo=True, device=job.device.type)
            values["finetune_seconds"].append(run.timing["training_seconds"])
            yield "finetune_seconds", values["finetune_seconds"], {}
            for task in ("aesthetics", "emotion"):
                name = f"finetune_{config.name}_{task}"
                values[name].append(run.metrics[task]["auc"])
                yield name, values[name], {}


def small_copy(para: Path, out: Path, photographs: dict[str, int] | None = None) -> None:
    """A part of PARA in its own layout, in JPEGs of 160 px, and ImageNet's weights in half precision.

    Args:
        para: its folder, see ``data.readers.para``.
        out: an empty or new folder.
        photographs: how many of each official part.
    """
    import timm
    import torch
    from safetensors.torch import save_file

    from aesthemo_lib.models.backbones import packaged_lite0

    (out / "annotation").mkdir(parents=True)
    for part, count in (photographs or PHOTOGRAPHS).items():
        name = f"PARA-Giaa{part}.csv"
        table = pd.read_csv(para / "annotation" / name, encoding="utf-8-sig")
        table = table.iloc[np.sort(np.random.default_rng(0).permutation(len(table))[:count])]
        table.to_csv(out / "annotation" / name, index=False, encoding="utf-8")
        for session, image in zip(table["sessionId"], table["imageName"], strict=True):
            target = out / "imgs" / session / image
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(decode(para / "imgs" / session / image, SIDE)).save(target, "JPEG", quality=QUALITY)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    values = torch.load(packaged_lite0(), map_location="cpu", weights_only=True).values()
    save_file({name: value.half().contiguous() if value.is_floating_point() else value
               for name, value in zip(names, values, strict=True)}, out / WEIGHTS)


if __name__ == "__main__":
    small_copy(Path(sys.argv[1]), Path(sys.argv[2]), {"Train": 40, "Test": 20} if "--small" in sys.argv else None)
