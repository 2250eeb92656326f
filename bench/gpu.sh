#!/bin/sh
# Fifteen minutes of a GPU, start and transfers included, well spent: its tests, its speed (results/gpu.json and gpu.md),
# and the trainings of the study of whole networks (out/gpu-studies; --gather of that study puts them into results/). What
# is there already is not measured again, so the same command goes on where it was stopped.
#
#     python -m aesthemo_studies small-para --root <PARA>     beforehand, where PARA is; carry the folder out/small_para
#     bench/gpu.sh                                  MINUTES=9, PARA=out/small_para, JOBS=16, PYTHON=python3, KEEP=<folder for a copy>
#     DEVICE=cpu bench/gpu.sh                       tries all of it in small sizes, into out/gpu-small.json
#
# It assumes a Python of 3.11 or later with torch, torchvision, timm, numpy, pandas, scikit-learn, scipy, pillow, safetensors,
# tqdm, psutil, matplotlib and pytest, and asks no network. Where CUDA's MPS can be started, trainings share the GPU by it.
set -u
cd "$(dirname "$0")/.." || exit 1
DEVICE=${DEVICE:-cuda} MINUTES=${MINUTES:-9} PARA=${PARA:-out/small_para} JOBS=${JOBS:-16} PYTHON=${PYTHON:-python3} KEEP=${KEEP:-}
FOUND=results/gpu SMALL=
if [ "$DEVICE" = cpu ]; then FOUND=out/gpu-small SMALL=--small; fi
END=$(($(date +%s) + MINUTES * 60)) FAILED=0

limited() {  # SECONDS COMMAND..: at most so long, and no longer than there is time
    most=$1 left=$((END - $(date +%s)))
    shift
    if [ "$left" -lt "$most" ]; then most=$left; fi
    if [ "$most" -lt 5 ]; then echo "no time left for: $*"; return; fi
    timeout "$most" "$PYTHON" -m "$@"
    code=$?
    if [ "$code" -eq 124 ]; then echo "stopped after $most s: $*"; elif [ "$code" -ne 0 ]; then FAILED=1; fi
}

part() {  # SECONDS OPTIONS..: of the bench
    most=$1
    shift
    limited "$most" bench --device "$DEVICE" $SMALL --missing "$@"
    if [ -n "$KEEP" ]; then cp "$FOUND.json" "$FOUND.md" "$KEEP"; fi
}

part 150 --rows tests
part 240 --rows vgg16 lite0 prediction
if [ "$DEVICE" = cpu ]; then limited 600 pytest -q -p no:cacheprovider tests/studies/test_whole_networks.py
elif [ -d "$PARA" ]; then
    if command -v nvidia-cuda-mps-control >/dev/null; then nvidia-cuda-mps-control -d; fi
    limited 3600 aesthemo_studies whole-networks --root "$PARA" --out out/gpu-studies --jobs "$JOBS"
    if [ -n "$KEEP" ]; then tar -C out -cf "$KEEP/rows.tar" gpu-studies/whole_networks/rows; fi
else echo "no $PARA: nothing is fine-tuned"; fi
exit $FAILED
