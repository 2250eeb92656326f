"""Backbones, the cross-branch layer and the networks against the patent's numbers and plain rewrites."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from aesthemo_lib.files import read_tensors
from aesthemo_lib.models import backbones, networks
from aesthemo_lib.models.backbones import backbone
from aesthemo_lib.models.fusion import CrossBranchLayer
from aesthemo_lib.models.lite0 import efficientnet_lite0
from aesthemo_lib.models.networks import METHODS, build, count_multiplies, count_parameters
from aesthemo_lib.tasks import PATENT_TASKS, Task

THREE_TASKS = (*PATENT_TASKS, Task("arousal", ("calm", "aroused"), 0.5))
VGG16_GROUPS = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]  # (kernels, conv layers), Simonyan & Zisserman 2015


def vgg16_parameters(classes: int) -> int:
    """Worked out from the layers' table: 3x3 convolutions with bias, then 4096, 4096 and the classes."""
    total, before = 0, 3
    for kernels, layers in VGG16_GROUPS:
        for _ in range(layers):
            total += 9 * before * kernels + kernels
            before = kernels
    for into, out in ((512 * 7 * 7, 4096), (4096, 4096), (4096, classes)):
        total += into * out + out
    return total


def vgg16_multiplies(side: int, classes: int) -> int:
    total, before = 0, 3
    for kernels, layers in VGG16_GROUPS:
        for _ in range(layers):
            total += 9 * before * kernels * side * side
            before = kernels
        side //= 2
    return total + 512 * 7 * 7 * 4096 + 4096 * 4096 + 4096 * classes


@pytest.fixture
def on_meta():
    """Networks without memory: shapes and counts alone."""
    with torch.device("meta"):
        yield


def test_the_patents_network_has_the_patents_size(on_meta):
    network = build("cross_branch", PATENT_TASKS, "vgg16", "none", "random")
    exchange = sum(2 * (2 * k * k + k) for k in (64, 128, 256, 512))
    assert count_parameters(network) == vgg16_parameters(2) + vgg16_parameters(8) + exchange == 269_956_618
    assert [layer.convs[0].weight.shape for layer in network.exchanges] == [
        (k, 2 * k, 1, 1) for k in (64, 128, 256, 512)
    ]
    assert all(layer.convs[0].stride == (1, 1) and layer.convs[0].padding == (0, 0) for layer in network.exchanges)


def test_multiplies_of_vgg16_by_formula(on_meta):
    network = build("independent", PATENT_TASKS, "vgg16", "none")
    assert count_multiplies(network, 224) == vgg16_multiplies(224, 2) + vgg16_multiplies(224, 8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tasks", [PATENT_TASKS, THREE_TASKS, PATENT_TASKS[:1]], ids=["two", "three", "one"])
@pytest.mark.parametrize("name", ["tiny", "efficientnet_lite0"])
def test_every_method_has_the_same_face(method, tasks, name):
    network = build(method, tasks, name, "none").eval()
    logits = network(torch.randn(2, 3, 64, 48))
    expected = {task.name: (2, len(task.classes)) for task in tasks}
    assert {name: tuple(values.shape) for name, values in logits.items()} == expected


@pytest.mark.parametrize("name", ["vgg13", "vgg16_bn", "vgg19", "efficientnet_lite0", "tiny"])
def test_groups_shrink_the_maps_and_tell_their_channels(name):
    with torch.device("meta"):
        branch = backbone(name, 8, "none")
        maps = torch.zeros(1, 3, 64, 64)
        for i, group in enumerate(branch.groups, start=1):
            maps = group(maps)
            assert maps.shape == (1, branch.channels[i - 1], 64 // 2**i, 64 // 2**i)
        assert branch.head.eval()(maps).shape == (1, 8)


def test_groups_and_head_are_torchvisions_vgg():
    import torchvision

    torch.manual_seed(0)
    reference = torchvision.models.vgg11_bn(weights=None, num_classes=1000).eval()
    with torch.no_grad():
        reference.classifier[-1] = nn.Linear(4096, 3)
    branch = backbone("vgg11_bn", 3, "none")
    maps = [module for group in branch.groups for module in group]
    for mine, theirs in zip(maps, reference.features, strict=True):
        mine.load_state_dict(theirs.state_dict())
    for mine, theirs in zip(branch.head[2:], reference.classifier, strict=True):
        mine.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 64, 64)
    x = images
    for group in branch.groups.eval():
        x = group(x)
    torch.testing.assert_close(branch.head.eval()(x), reference(images))


def test_lite0_keeps_timms_function_and_the_packages_weights():
    import timm

    branch = backbone("efficientnet_lite0", 1000, "imagenet")
    state = torch.load(backbones.packaged_lite0(), map_location="cpu", weights_only=True)
    reference = timm.create_model("tf_efficientnet_lite0")
    reference.load_state_dict(dict(zip(reference.state_dict(), state.values(), strict=True)))
    branch.head[-1].load_state_dict(reference.classifier.state_dict())
    x = images = torch.randn(2, 3, 96, 96)
    for group in branch.groups.eval():
        x = group(x)
    torch.testing.assert_close(branch.head.eval()(x), reference.eval()(images))


def test_lite0_is_timms_to_the_bit_and_starts_at_random_as_it_does():
    import timm

    torch.manual_seed(3)
    reference, after = timm.create_model("tf_efficientnet_lite0"), torch.rand(1)
    torch.manual_seed(3)
    mine = efficientnet_lite0()
    assert torch.equal(torch.rand(1), after), "what is drawn next must not change either"
    expected, actual = reference.state_dict(), mine.state_dict()
    assert list(actual) == list(expected) and all(torch.equal(actual[name], expected[name]) for name in expected)
    assert sum(layer.eps == 1e-3 for layer in mine.modules() if isinstance(layer, nn.BatchNorm2d)) == 49
    images = torch.randn(2, 3, 75, 90)  # of odd and even sides, which are padded differently
    for _ in range(2):  # with the batch's statistics, and then with what has become of the running ones
        assert torch.equal(mine(images), reference(images))
        mine.eval(), reference.eval()


def test_lite0_weights_know_a_photograph(oasis_root):
    """The proof that the weights lie in timm's order: a real photograph gets its ImageNet class."""
    import timm

    from aesthemo_lib.data.images import decode

    state = torch.load(backbones.packaged_lite0(), map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    photo = next(iter(sorted((oasis_root / "images").glob("Zebra*.jpg"))), None)
    if photo is None:
        pytest.skip("needs a photograph of a zebra among the OASIS images")
    images = torch.tensor(decode(photo, 224)).permute(2, 0, 1)[None] / 127.5 - 1
    assert network(images).argmax().item() == 340  # ImageNet's zebra


@pytest.mark.parametrize("name, sizes", [
    ("resnet18", [48, 24, 12, 6, 3]), ("convnext_atto", [24, 12, 6, 3]), ("mobilenetv3_small_050", [48, 24, 12, 6, 3]),
    ("regnetx_002", [48, 24, 12, 6, 3]),  # its pooling stands before, and a flattening after its last layer
])
def test_a_network_of_timm_joins_by_name_and_keeps_its_function(name, sizes, tmp_path):
    import timm
    from safetensors.torch import save_file

    reference = timm.create_model(name).eval()
    save_file(reference.state_dict(), tmp_path / "mine.safetensors")
    branch = backbone(name, 1000, str(tmp_path / "mine.safetensors")).eval()
    branch.head[-1].load_state_dict(reference.get_classifier().state_dict())
    maps = images = torch.randn(1, 3, 96, 96)
    for group, channels, side in zip(branch.groups, branch.channels, sizes, strict=True):
        maps = group(maps)
        assert maps.shape == (1, channels, side, side)
    with torch.no_grad():
        torch.testing.assert_close(branch.head(maps), reference(images))
    assert branch.weights == "file mine.safetensors" and branch.std == reference.pretrained_cfg["std"]


@pytest.mark.parametrize("name, says", [
    ("vit_tiny_patch16_224", "timm names no stages between which its maps shrink"),
    ("swin_tiny_patch4_window7_224", r"\(224\)"),  # takes images of one size alone
    ("dla34", "does not end in one fully connected layer"),
    ("hrnet_w18_small", "take another, such as resnet18"),
])
def test_a_network_of_timm_that_is_no_row_of_stages_is_refused_with_the_reason(name, says):
    with pytest.raises(ValueError, match=f"(?s)backbone '{name}'.*{says}"):
        backbone(name, 2, "none")


def test_timms_own_weights_are_taken_from_its_cache(tmp_path, monkeypatch):
    import timm
    from huggingface_hub import constants
    from safetensors.torch import save_file

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"resnet18 are not in timm's cache.*pretrained=True.*weights=none"):
        backbone("resnet18", 2, "imagenet")
    folder = tmp_path / "models--timm--resnet18.a1_in1k"  # as the hub lays it
    for name in ("refs", "snapshots/1234"):
        (folder / name).mkdir(parents=True)
    (folder / "refs" / "main").write_text("1234", encoding="utf-8")
    network = timm.create_model("resnet18")
    save_file(network.state_dict(), folder / "snapshots" / "1234" / "model.safetensors")
    branch = backbone("resnet18", 2, "imagenet")
    assert torch.equal(branch.groups[0][0].weight, network.conv1.weight) and branch.weights == "timm/resnet18.a1_in1k"


def test_deviations_from_claim_3_are_named():
    with torch.device("meta"):
        assert backbone("vgg16", 2, "none").deviations() == []
        assert backbone("tiny", 2, "none").deviations() == []
        assert len(backbone("vgg11", 2, "none").deviations()) == 2  # its first two groups have one conv layer
        assert len(backbone("efficientnet_lite0", 2, "none").deviations()) == 5  # it has no max-pool


def test_a_cross_branch_layer_by_hand():
    """Two branches of two channels on one pixel: z_t = W_t [x_1; x_2] + b_t."""
    layer = CrossBranchLayer(2, 2, "default")
    weights = [[[1.0, 2, 3, 4], [5, 6, 7, 8]], [[-1, 0, 1, 0], [0, 0, 0, 2]]]
    with torch.no_grad():
        for conv, weight, bias in zip(layer.convs, weights, [[0.5, -0.5], [0, 1]], strict=True):
            conv.weight.copy_(torch.tensor(weight)[:, :, None, None])
            conv.bias.copy_(torch.tensor(bias))
    first, second = layer([torch.tensor([1.0, 10]).view(1, 2, 1, 1), torch.tensor([100.0, 1000]).view(1, 2, 1, 1)])
    assert first.flatten().tolist() == [1 + 20 + 300 + 4000 + 0.5, 5 + 60 + 700 + 8000 - 0.5]
    assert second.flatten().tolist() == [-1 + 100, 2000 + 1]


def test_diagonal_start_mixes_alpha_own_and_beta_of_the_others():
    maps = [torch.randn(2, 4, 3, 3) for _ in range(3)]
    mixed = CrossBranchLayer(3, 4, "diagonal", alpha=0.8, beta=0.2)(maps)
    for own in range(3):
        others = sum(maps[s] for s in range(3) if s != own) / 2
        torch.testing.assert_close(mixed[own], 0.8 * maps[own] + 0.2 * others)


def test_initial_scales():
    """He keeps the size of the maps; PyTorch's default leaves a third of their variance at every layer."""
    torch.manual_seed(0)
    maps = [torch.randn(4, 256, 8, 8) for _ in range(2)]
    kept = CrossBranchLayer(2, 256, "random")(maps)[0].std().item()
    shrunk = CrossBranchLayer(2, 256, "default")(maps)[0].std().item()
    assert kept == pytest.approx(1, abs=0.05)
    assert shrunk == pytest.approx(math.sqrt(1 / 3), abs=0.05)  # uniform on +-1/sqrt(fan_in)


def test_diagonal_one_zero_is_independent_networks():
    torch.manual_seed(0)
    joint = build("cross_branch", PATENT_TASKS, "tiny", "none", "diagonal", seed=3, alpha=1.0, beta=0.0)
    apart = build("independent", PATENT_TASKS, "tiny", "none", seed=3)
    images = torch.randn(2, 3, 32, 32)
    for task, values in joint(images).items():
        torch.testing.assert_close(values, apart(images)[task])


def test_equal_branches_start_as_the_pretrained_network():
    """With alpha + beta = 1 the fused maps of an equal pair are the single network's own maps."""
    network = build("cross_branch", PATENT_TASKS, "efficientnet_lite0", "imagenet", "diagonal").eval()
    x = torch.randn(1, 3, 64, 64)
    maps, single = [x, x], x
    for i in range(5):
        maps = network.exchange(i, [b.groups[i](m) for b, m in zip(network.branches, maps, strict=True)])
        single = network.branches[0].groups[i](single)
        torch.testing.assert_close(maps[0], single, rtol=1e-3, atol=1e-3)


def test_layers_stand_between_the_groups_and_after_the_last_if_asked():
    assert len(build("cross_branch", PATENT_TASKS, "tiny", "none", "random").exchanges) == 2
    assert len(build("cross_branch", PATENT_TASKS, "tiny", "none", "random", after_last=True).exchanges) == 3


def test_what_one_branch_borrows_reaches_the_other():
    """A gradient of the emotion logits flows into the aesthetics branch, except through its last group and head."""
    network = build("cross_branch", PATENT_TASKS, "tiny", "none", "random")
    network(torch.randn(2, 3, 32, 32))["emotion"].sum().backward()
    aesthetics = network.branches[0]
    reached = [any(p.grad is not None for p in group.parameters()) for group in aesthetics.groups]
    assert reached == [True, True, False]
    assert all(p.grad is None for p in aesthetics.head.parameters())


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_shared_bottom_shares_exactly_its_first_groups(depth):
    shared = build("shared_bottom", PATENT_TASKS, "tiny", "none", depth=depth)
    apart = build("independent", PATENT_TASKS, "tiny", "none")
    saved = sum(p.numel() for group in list(apart.branches[0].groups)[:depth] for p in group.parameters())
    assert count_parameters(shared) == count_parameters(apart) - saved


@pytest.mark.parametrize("depth", [1, 3])
def test_a_shared_bottom_of_earlier_versions_is_read(depth):
    """They numbered what follows the trunk in one row: the groups, then the head."""
    network = build("shared_bottom", PATENT_TASKS, "tiny", "none", depth=depth, seed=1)
    groups, head = network.branches[1].groups, network.branches[1].head
    state = network.state_dict()
    old = {key: value for key, value in state.items() if key.startswith("trunk.")}
    for t in range(2):
        for name in (key for key in state if key.startswith(f"branches.{t}.")):
            rest = name.removeprefix(f"branches.{t}.")
            rest = rest.removeprefix("groups.") if "groups." in rest else rest.replace("head", str(3 - depth), 1)
            old[f"branches.{t}.{rest}"] = state[name]
    assert f"branches.1.{3 - depth}.6.weight" in old and len(old) == len(state)
    again = build("shared_bottom", PATENT_TASKS, "tiny", "none", depth=depth, seed=2)
    again.load_state_dict(old)
    images = torch.randn(1, 3, 32, 32)
    x = images
    for part in (*network.trunk, *groups, head):
        x = part(x)
    assert torch.equal(again(images)["emotion"], x) and len(groups) == 3 - depth


@pytest.mark.parametrize(("method", "keys"), [
    ("cross_branch", {"branches.1.groups.2.0.weight", "branches.0.head.6.bias", "exchanges.1.convs.0.weight"}),
    ("independent", {"branches.1.groups.2.0.weight", "branches.0.head.6.bias"}),
    ("bilstm", {"front.2.0.weight", "front.5.weight", "features.1.weight", "scan.weight_ih_l0", "last.bias"}),
    ("colour_texture", {"networks.1.groups.2.0.weight", "networks.0.head.6.bias", "networks.0.described.1.weight"}),
])
def test_weights_keep_the_names_of_earlier_versions(method, keys):
    assert keys <= set(build(method, PATENT_TASKS, "tiny", "none").state_dict())


def test_same_seed_same_network():
    one, two, other = (build("cross_branch", PATENT_TASKS, "tiny", "none", "random", seed=s) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("call", "says"), [
    (lambda: build("crossbranch", PATENT_TASKS, "tiny"), "unknown method 'crossbranch'; choose one of cross_branch"),
    (lambda: build("cross_branch", PATENT_TASKS, "tiny", variant="xavier"), "its variants: diagonal, random"),
    (lambda: build("shared_bottom", PATENT_TASKS, "tiny", "none", depth=4), r"3 conv groups; expected 1\.\.3, got 4"),
    (lambda: build("independent", PATENT_TASKS, "tiny", "none", depth=1), "has no option 'depth'; its options: none"),
    (lambda: backbone("resnet", 2), "unknown backbone 'resnet'; choose one of vgg11"),
])
def test_what_is_unknown_is_refused_with_what_is_known(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no route")))
    says = r"(?s)vgg16.*no route.*Fetch https.*weights=none"
    with torch.device("meta"), pytest.raises(FileNotFoundError, match=says):
        backbone("vgg16", 2, "imagenet")
    with pytest.raises(FileNotFoundError, match="nowhere.pth does not exist"):
        backbone("efficientnet_lite0", 2, str(tmp_path / "nowhere.pth"))


def test_a_local_weights_file_is_taken_and_another_networks_refused(tmp_path):
    import timm
    from safetensors.torch import save_file

    network = timm.create_model("tf_efficientnet_lite0")
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    for name in ("mine.safetensors", "mine.pth"):
        branch = backbone("efficientnet_lite0", 2, str(tmp_path / name))
        assert torch.equal(branch.groups[0][0].weight, network.conv_stem.weight)
        assert branch.weights == f"file {name}"
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other.safetensors do not fit efficientnet_lite0"):
        backbone("efficientnet_lite0", 2, str(tmp_path / "other.safetensors"))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    import os
    import pickle

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was-here"),)

    (tmp_path / "hostile.pth").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match="can't be read as tensors alone"):
        backbone("efficientnet_lite0", 2, str(tmp_path / "hostile.pth"))
    assert not (tmp_path / "was-here").exists()


def test_branches_that_hardly_differ_share_their_frozen_groups(monkeypatch):
    """The bundled network for photographs has two branches, and preset teach keeps two groups as they are."""
    run = Path(networks.__file__).parents[1] / "bundled" / "photographs"
    arguments = ("cross_branch", PATENT_TASKS, "efficientnet_lite0", str(run), "diagonal")
    whole, cut = build(*arguments), build(*arguments, frozen=2)
    for mine, theirs in zip(cut.frozen, whole.branches[0].groups, strict=False):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    later = zip(cut.branches[1].groups, whole.branches[1].groups[2:], strict=True)
    assert all(torch.equal(a, b) for mine, theirs in later
               for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    monkeypatch.setattr(networks, "SAME", 1e-5)
    with pytest.raises(ValueError, match=r"different weights \(run photographs\).* use frozen_groups=0"):
        build(*arguments, frozen=2)

def test_a_trained_network_lends_its_exchanges_to_the_same_method():
    """Each layer from the one in its place, also where frozen groups leave the first ones out; others start afresh."""
    run = Path(networks.__file__).parents[1] / "bundled" / "photographs"
    start = (PATENT_TASKS, "efficientnet_lite0", str(run))
    whole, cut = build("cross_branch", *start, "diagonal"), build("cross_branch", *start, "diagonal", frozen=2)
    published = read_tensors(run / "model.safetensors")
    for i, layer in enumerate(whole.exchanges):
        assert torch.equal(layer.convs[1].weight, published[f"exchanges.{i}.convs.1.weight"].float())
    for mine, theirs in zip(cut.exchanges, list(whole.exchanges)[2:], strict=True):
        assert torch.equal(mine.convs[0].weight, theirs.convs[0].weight)
    fresh = CrossBranchLayer(2, whole.exchanges[0].channels).convs[1].weight
    assert not torch.equal(whole.exchanges[0].convs[1].weight, fresh)
    renamed = tuple(replace(task, name=f"my_{task.name}") for task in PATENT_TASKS)
    assert torch.equal(build("cross_branch", renamed, *start[1:], "diagonal").exchanges[0].convs[1].weight, fresh)
