#!/bin/sh
# Fifteen minutes of a GPU, start and transfers included, well spent. Each part writes what it has into results/gpu.json
# and gpu.md; what is there already is not measured again, so the same command goes on where it was stopped.
#
#     python -m bench.gpu <PARA> out/small_para     beforehand, where PARA is: 5,000 photographs of 160 px; carry the folder
#     bench/gpu.sh                                  MINUTES=9, PARA=out/small_para, PYTHON=python3, KEEP=<folder for a copy>
#     DEVICE=cpu bench/gpu.sh                       tries all of it in small sizes, into out/gpu-small.json
#
# It assumes a Python of 3.11 or later with torch, torchvision, timm, numpy, pandas, scikit-learn, scipy, pillow, safetensors,
# tqdm, psutil, matplotlib and pytest, and asks no network.
set -u
cd "$(dirname "$0")/.." || exit 1
DEVICE=${DEVICE:-cuda} MINUTES=${MINUTES:-9} PARA=${PARA:-out/small_para} PYTHON=${PYTHON:-python3} KEEP=${KEEP:-}
FOUND=results/gpu SMALL=
if [ "$DEVICE" = cpu ]; then FOUND=out/gpu-small SMALL=--small; fi
END=$(($(date +%s) + MINUTES * 60)) FAILED=0

part() {  # SECONDS OPTIONS..: at most so long, and no longer than there is time
    most=$1 left=$((END - $(date +%s)))
    shift
    if [ "$left" -lt "$most" ]; then most=$left; fi
    if [ "$most" -lt 5 ]; then echo "no time left for: $*"; return; fi
    timeout "$most" "$PYTHON" -m bench --device "$DEVICE" $SMALL "$@"
    code=$?
    if [ "$code" -eq 124 ]; then echo "stopped after $most s: $*"; elif [ "$code" -ne 0 ]; then FAILED=1; fi
    if [ -n "$KEEP" ]; then cp "$FOUND.json" "$FOUND.md" "$KEEP"; fi
}

part 150 --missing --rows tests
part 240 --missing --rows vgg16 lite0 prediction
if [ -d "$PARA" ]; then part 3600 --rows finetune --root "$PARA"; else echo "no $PARA: nothing is fine-tuned"; fi
exit $FAILED
