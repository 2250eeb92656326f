"""Ways to spend less memory or time on a step, each against the plain step: parts, checkpoints, float16, compiling."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_fit import CPU, SETTINGS, data, network, weights
from torch import nn

from aesthemo_lib import cli, device
from aesthemo_lib.models import inference
from aesthemo_lib.models.checkpointing import checkpointed
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training import fit as loop
from aesthemo_lib.training.fit import fit
from aesthemo_lib.training.run import Run


@pytest.fixture(autouse=True)
def one_precision(monkeypatch):
    """float32 wherever the tests run, so that they mean the same on every processor."""
    for module in (loop, inference):
        monkeypatch.setattr(module, "fast_precision", lambda device: torch.float32)


@pytest.mark.parametrize("settings", [{}, {"aggregation": "uncertainty"}])
def test_a_batch_in_parts_is_the_whole_batch(settings):
    """Of 32 images in batches of 9, parts hold 3 or 2, and unlike numbers of labelled ones."""
    whole, parted = network(), network()
    settings = replace(SETTINGS, batch=9, **settings)
    expected = fit(whole, data(), settings, 0, CPU)
    for got, wanted in zip(fit(parted, data(), replace(settings, accumulate=4), 0, CPU), expected, strict=True):
        assert got == pytest.approx(wanted, rel=1e-5)
    torch.testing.assert_close(weights(parted), weights(whole), rtol=1e-4, atol=1e-6)


def normed():
    """A network whose conv groups have batch statistics and dropout."""
    net = network()
    for branch in net.branches:
        branch.groups[0].extend([nn.BatchNorm2d(8), nn.Dropout(0.3)])
    return net


def test_checkpoints_give_the_same_bits():
    kept, again = normed(), normed()
    expected = fit(kept, data(), SETTINGS, 0, CPU)
    assert fit(again, data(), replace(SETTINGS, checkpoint=True), 0, CPU) == expected
    for name, value in kept.state_dict().items():  # running statistics too: they are counted once
        assert torch.equal(value, again.state_dict()[name]), name
    assert "forward" not in vars(again.branches[0].groups[0])


def test_checkpoints_keep_what_groups_put_out_and_no_more():
    kept = {}

    def count(tensor):
        kept[how] += tensor.numel()
        return tensor

    net, images = network(), torch.rand(4, 3, 32, 32)
    for how in ("plain", "checkpointed"):
        kept[how] = 0
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            if how == "plain":
                net(images)
            else:
                with checkpointed(net):
                    net(images)
    assert kept["checkpointed"] < 0.4 * kept["plain"]


def test_float16_with_its_scaled_loss_stays_near_float32_and_resumes_to_the_same_bits(monkeypatch, tmp_path):
    plain = fit(network(), data(), SETTINGS, 0, CPU)
    for module in (loop, inference):
        monkeypatch.setattr(module, "fast_precision", lambda device: torch.float16)
    undisturbed = network()
    expected = fit(undisturbed, data(), SETTINGS, 0, CPU)
    for a, b in zip(plain, expected, strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=0.03)

    def cut(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network(), data(), SETTINGS, 0, CPU, tmp_path, after_epoch=cut)
    scaler, = tmp_path.rglob("scaler.json")
    state = json.loads(scaler.read_text(encoding="utf-8"))
    assert state["scale"] == 2.0**16 and state["_growth_tracker"] == 4  # steps without an overflow
    resumed = network(seed=3)
    assert fit(resumed, data(), SETTINGS, 0, CPU, tmp_path) == expected
    assert torch.equal(weights(resumed), weights(undisturbed))


def test_a_compiled_network_trains_the_same(monkeypatch):
    """Traced as for a GPU, but not made into machine code, which takes minutes."""
    monkeypatch.setattr(loop, "COMPILER", "aot_eager")
    settings = replace(SETTINGS, epochs=1)
    plain, compiled = network(), network()
    expected = fit(plain, data(), settings, 0, CPU)
    got = fit(compiled, data(), replace(settings, compile=True), 0, CPU)
    assert got[0] == pytest.approx(expected[0], rel=1e-5)
    assert list(compiled.state_dict()) == list(plain.state_dict())


HEAP = """
import ctypes
from aesthemo_lib.device import keep_freed_memory
keep_freed_memory()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
blocks = [libc.malloc(ctypes.c_size_t(600_000_000)) for _ in range(5)]  # 3 GB that nobody touches
before = libc.sbrk(0)
for block in blocks:
    libc.free(ctypes.c_void_p(block))
print(before - libc.sbrk(0))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's switches")
def test_freed_memory_is_kept_however_much_it_is():
    """Beyond 2 GiB too, which glibc's bound, a C int, can only be told as 'none'."""
    done = subprocess.run([sys.executable, "-c", HEAP], check=True, capture_output=True, encoding="utf-8")
    assert int(done.stdout) == 0  # bytes that were handed back


@pytest.mark.parametrize(("bfloat16", "capability", "expected"), [
    (True, (8, 0), torch.bfloat16), (False, (7, 5), torch.float16), (False, (6, 1), torch.float32),
])
def test_each_gpu_has_its_precision(bfloat16, capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert device.fast_precision(torch.device("cuda")) == expected


def test_a_processor_held_to_avx2_computes_in_float32():
    """PyTorch reads its switch when it starts; bfloat16 without its instructions takes ten times as long."""
    code = ("import torch; from aesthemo_lib.device import fast_precision; "
            "print(torch.backends.cpu.get_cpu_capability(), fast_precision(torch.device('cpu')))")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8",
                          env=os.environ | {"ATEN_CPU_CAPABILITY": "avx2"})
    capability, precision = done.stdout.split()
    assert capability != "AVX512" and precision == "torch.float32"


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert device.pick_device() == torch.device("cuda") and not chosen
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.pick_device() == device.pick_device("cuda") == torch.device("cuda", 1) and chosen == [1, 1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="process 3 of this machine has no GPU of its own, of 2"):
        device.pick_device()


def test_batch_statistics_of_all_processes_change_no_prediction():
    """What several GPUs do to a network: its normalisations are others, in the places that the loop knows."""
    from timm.layers import convert_sync_batchnorm

    net = build("nddr", PATENT_TASKS, "efficientnet_lite0", "none").eval().double()
    images = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        before = net(images)["emotion"]
        after = convert_sync_batchnorm(net)(images)["emotion"]
    torch.testing.assert_close(after, before)  # not to the bit: the new ones are not folded into the kernels
    here = {id(module) for module in net.modules()}
    parts = [part for groups, head in net.parts() for part in (*groups, head)]
    norms = [m for part in parts for m in part.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms and all(id(norm) in here for norm in norms)


def test_the_command_trains_without_a_notebook(colours_root, tmp_path, capsys):
    asked = ["train", "-p", "data", "csv", "-p", "root", str(colours_root), "-p", "preset", "smoke",
             "-p", "epochs", "1", "--out", str(tmp_path)]
    assert cli.main([*asked, "-s", "accumulate", "2", "-s", "checkpoint", "true"]) == 0
    run = Run(Path(capsys.readouterr().out.splitlines()[-1]))
    assert run.folder == tmp_path / "csv" / "cross_branch.diagonal" / "smoke" / "split0-seed0"
    known = run.described["settings"]
    assert (known["accumulate"], known["checkpoint"], known["epochs"]) == (2, True, 1) and "compile" not in known
    assert run.settings.accumulate == 2 and run.timing["processes"] == 1
    for wrong, said in ((["-s", "acumulate", "2"], "settings: unknown 'acumulate'"),
                        (["-s", "accumulate", "0"], "accumulate and views of 1 or more"),
                        (["-s", "accumulate", "two"], "accumulate: expected int, got 'two'")):
        assert cli.main([*asked, *wrong]) == 1
        assert said in capsys.readouterr().err
