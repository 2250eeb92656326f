"""A copy of PARA that is small enough to travel to a GPU; for research and learning only, as PARA is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from tqdm import tqdm

from aesthemo_lib.data.decoding import decode
from aesthemo_lib.files import atomic
from aesthemo_lib.models.backbones import packaged_lite0

from .study import WEIGHTS, protocol

QUALITY = 50


def small_copy(para: Path, out: Path) -> None:
    """PARA in its own layout, in WebP pictures of the study's side, and ImageNet's weights in half precision: 0.1 GB.

    Args:
        para: its folder, see ``data.readers.para``.
        out: where the copy goes; pictures that are there already stay.
    """
    (out / "annotation").mkdir(parents=True, exist_ok=True)
    for part in ("Train", "Test"):
        table = para / "annotation" / f"PARA-Giaa{part}.csv"
        shutil.copy(table, out / "annotation" / table.name)
        names = pd.read_csv(table, usecols=["sessionId", "imageName"], encoding="utf-8-sig")
        for row in tqdm(names.itertuples(), f"PARA, {part}", len(names), unit="image"):
            target = out / "imgs" / row.sessionId / row.imageName
            if not target.exists() and (source := para / "imgs" / row.sessionId / row.imageName).exists():
                with atomic(target) as temporary:
                    Image.fromarray(decode(source, protocol()["side"])).save(temporary, "WEBP", quality=QUALITY)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    values = torch.load(packaged_lite0(), map_location="cpu", weights_only=True).values()
    save_file({name: value.half().contiguous() if value.is_floating_point() else value
               for name, value in zip(names, values, strict=True)}, out / WEIGHTS)
