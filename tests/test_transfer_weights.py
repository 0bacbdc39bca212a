"Every broken weight file, told apart by name; what a notebook shows of good ones is in nbs/12_transfer.ipynb."
import dataclasses
import gzip
import io
import json
import pickle
import shutil
import tarfile
import urllib.error
import warnings
import zipfile

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ovf_dlr import transfer
from ovf_dlr.transfer import (BACKBONES, Network, Training, WeightsError, WeightsWarning, find_weights, fine_tune, load_body,
                              read_weights, weights_format, weights_sha256)


@pytest.fixture(scope="module")
def state():
    "A torchvision ResNet-50 state dict that looks trained, in half precision to keep files small."
    torch.manual_seed(0)
    shapes = transfer._shapes()
    return {k: (torch.rand(s) + 0.5 if "var" in k else torch.randn(s) * 0.1).half() for k, s in shapes.items()}


@pytest.fixture
def saved(tmp_path):
    "Write an object with torch, give the path."

    def save(obj, name="ResNet50.pt", **kwargs):
        torch.save(obj, tmp_path / name, **kwargs)
        return tmp_path / name

    return save


def fails(match, path):
    with pytest.raises(WeightsError, match=match) as e:
        read_weights(path)
    assert str(path) in str(e.value), "the message does not name the file"
    return str(e.value)


# --- files that are no weight files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, match",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:08629f\nsize 94343463\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>", "web page"),
        (b"  \n<html lang='en'>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
        (gzip.compress(b"weights"), "archive"),
        (b"Rar!\x1a\x07\x00" + b"0" * 100, "archive"),
        (b"7z\xbc\xaf\x27\x1c" + b"0" * 100, "archive"),
        (b"Not Found", "neither a torch"),
        (bytes(range(256)) * 4, "neither a torch"),
    ],
)
def test_not_a_weight_file(tmp_path, content, match):
    path = tmp_path / "ResNet50.pt"
    path.write_bytes(content)
    fails(match, path)


def test_the_zip_the_weights_came_in(tmp_path):
    path = tmp_path / "RadImageNet_pytorch.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("RadImageNet_pytorch/ResNet50.pt", b"inside")
    fails("unpack it", path)


def test_tar_of_torch_before_2017(tmp_path):
    path = tmp_path / "resnet50-19c8e357.pth"
    with tarfile.open(path, "w") as t:
        info = tarfile.TarInfo("storages")
        info.size = 4
        t.addfile(info, io.BytesIO(b"1234"))
    assert "resnet50-0676ba61.pth" in fails("before 2017", path)


# --- weight files cut short ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.001, 0.5, 0.999])
def test_truncated_torch(saved, state, keep):
    path = saved(state)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    fails("ends too early", path)


@pytest.mark.parametrize("keep", [0.001, 0.5, 0.999])
def test_truncated_legacy_pickle(saved, state, keep):
    path = saved(state, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    fails("ends too early", path)


@pytest.mark.parametrize("keep", [0.001, 0.9])
def test_truncated_safetensors(tmp_path, state, keep):
    path = tmp_path / "ResNet50.safetensors"
    save_file(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    fails("ends too early", path)


def test_truncated_hdf5(tmp_path):
    path = tmp_path / "notop.h5"
    with h5py.File(path, "w") as f:
        f["conv1_conv/conv1_conv/kernel:0"] = np.zeros((7, 7, 3, 64))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    fails("ends too early", path)


def test_damaged_inside_torch_zip(saved, state):
    "A flipped block in the middle of an otherwise whole file must not become weights."
    path = saved(state)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2] = b"\x00\x7c"  # half-precision infinity, or a broken record
    path.write_bytes(data)
    assert weights_format(path) == "torch"
    with pytest.raises(WeightsError):
        read_weights(path)


# --- pickles ------------------------------------------------------------------------------------------------------


class Bomb:
    "Runs code when unpickled."

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a weight file was run')",))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_weight_file_never_runs(saved, zipped):
    fails("state_dict", saved({"state_dict": Bomb()}, _use_new_zipfile_serialization=zipped))


def test_plain_pickle(tmp_path):
    path = tmp_path / "ResNet50.pt"
    path.write_bytes(pickle.dumps({"a": Bomb()}))
    with pytest.raises(WeightsError):
        read_weights(path)


def test_whole_model(saved):
    fails("whole pickled model", saved(torch.nn.Linear(2, 2)))


def test_legacy_pickle_of_good_weights_is_read(saved, state):
    assert len(read_weights(saved(state, _use_new_zipfile_serialization=False))) == 265


# --- tensors that are not a ResNet-50 -----------------------------------------------------------------------------


@pytest.mark.parametrize("obj", [torch.zeros(3), [torch.zeros(3)], {}, {"epoch": 3}, {"state_dict": {}}])
def test_no_state_dict(saved, obj):
    fails("no named tensors", saved(obj))


@pytest.mark.parametrize("lost", ["conv1.weight", "layer4.2.bn3.running_var", "layer2.0.downsample.0.weight"])
def test_one_tensor_missing(saved, state, lost):
    message = fails("lack 1 of the 265", saved({k: v for k, v in state.items() if k != lost}))
    assert lost in message


def test_other_architecture(saved):
    message = fails("lack", saved({"features.conv0.weight": torch.zeros(64, 3, 7, 7)}))
    assert "features.conv0.weight" in message and "another architecture" in message


def test_unknown_prefix_is_not_guessed(saved, state):
    fails("lack 265 of the 265", saved({f"encoder.{k}": v for k, v in state.items()}))


@pytest.mark.parametrize("name, shape", [("conv1.weight", (64, 1, 7, 7)), ("layer1.0.conv2.weight", (128, 128, 3, 3)), ("bn1.weight", (1, 64))])
def test_wrong_shape(saved, state, name, shape):
    assert str(shape) in fails("another shape", saved(state | {name: torch.ones(shape)}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_finite(saved, state, value):
    bad = state["layer3.1.conv2.weight"].clone()
    bad[0, 0, 0, 0] = value
    assert "layer3.1.conv2.weight" in fails("NaN or infinite", saved(state | {"layer3.1.conv2.weight": bad}))


def test_one_untrained_layer(saved, state):
    new = {"layer4.0.bn2.running_mean": torch.zeros(512), "layer4.0.bn2.running_var": torch.ones(512)}
    assert "layer4.0.bn2" in fails("never trained", saved(state | new))


def test_radimagenet_classifier_head_is_ignored_and_names_are_needed(saved, state):
    positions = {v: k for k, v in transfer._POSITIONS.items()}
    named = {f"module.backbone.{positions[k.split('.')[0]]}.{k.split('.', 1)[1]}": v for k, v in state.items()}
    extra = {"module.classifier.linear.weight": torch.zeros(165, 2048)}
    assert set(read_weights(saved({"state_dict": named | extra}))) == set(state)
    shifted = {k.replace("backbone.4.", "backbone.3."): v for k, v in named.items()}
    fails("layer1.0.conv1.weight", saved(shifted))


# --- Keras --------------------------------------------------------------------------------------------------------


@pytest.fixture
def keras(tmp_path, state):
    "The layers of a Keras file, and a function that writes them."
    inverse = {v: k for k, v in transfer._KERAS_WEIGHTS.items() if v != "weight"}
    layers = {}
    for k, v in state.items():
        stem, weight = k.rsplit(".", 1)
        parts = stem.split(".")
        if len(parts) == 1:
            layer = "conv1_conv" if stem == "conv1" else "conv1_bn"
        else:
            kind = "conv" if "conv" in stem or stem.endswith("downsample.0") else "bn"
            layer = f"conv{int(parts[0][-1]) + 1}_block{int(parts[1]) + 1}_{0 if 'downsample' in stem else parts[2][-1]}_{kind}"
        a = v.float().numpy()
        leaf = ("kernel" if a.ndim == 4 else "gamma") if weight == "weight" else inverse[weight]
        layers[layer, leaf] = a.transpose(2, 3, 1, 0) if a.ndim == 4 else a

    def write(layers, root="model_weights/"):
        path = tmp_path / "RadImageNet-ResNet50_notop.h5"
        with h5py.File(path, "w") as f:
            for (layer, leaf), a in layers.items():
                f[f"{root}{layer}/{layer}/{leaf}:0"] = a
        return path

    return layers, write


@pytest.mark.parametrize("root", ["model_weights/", "", "model_weights/resnet50/"])
def test_keras_without_biases_at_any_depth(keras, state, root):
    layers, write = keras
    read = read_weights(write(layers, root))
    assert all(torch.equal(read[k], v.float()) for k, v in state.items())


def test_keras_bias_is_folded_into_its_own_normalisation(keras, state):
    layers, write = keras
    bias = np.linspace(-1, 1, 256, dtype="float32")
    read = read_weights(write(layers | {("conv2_block1_0_conv", "bias"): bias}))
    changed = [k for k, v in state.items() if not torch.equal(read[k], v.float())]
    assert changed == ["layer1.0.downsample.1.running_mean"]
    np.testing.assert_allclose(read[changed[0]], state[changed[0]].float().numpy() - bias, atol=1e-6)


def test_keras_ignores_optimiser_state(keras, state):
    layers, write = keras
    path = write(layers)
    with h5py.File(path, "a") as f:
        f["optimizer_weights/adam/conv1_conv/kernel:0"] = np.full((7, 7, 3, 64), 9.0)
    assert torch.equal(read_weights(path)["conv1.weight"], state["conv1.weight"].float())


@pytest.mark.parametrize("lost", [("conv3_block4_2_conv", "kernel"), ("conv1_bn", "moving_variance")])
def test_keras_layer_missing(keras, lost):
    layers, write = keras
    fails("lack 1 of the 265", write({k: v for k, v in layers.items() if k != lost}))


def test_keras_other_network(tmp_path):
    path = tmp_path / "densenet.h5"
    with h5py.File(path, "w") as f:
        f["model_weights/conv2_block1_0_bn/x/gamma:0"] = np.ones(64)
    fails("(?s)no named tensors|lack 265", path)


# --- the right file under the wrong name --------------------------------------------------------------------------


def test_keras_file_under_torch_name(keras):
    layers, write = keras
    with pytest.raises(WeightsError, match="belongs to 'radimagenet-keras' alone"):
        load_body("radimagenet", write(layers))


def test_published_file_of_another_backbone(saved, state, monkeypatch):
    path = saved(state)
    published = dataclasses.replace(BACKBONES["imagenet"], sha256=weights_sha256(path)[:8])
    monkeypatch.setitem(BACKBONES, "imagenet", published)
    with pytest.raises(WeightsError, match="are those of backbone 'imagenet'"):
        load_body("radimagenet", path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_body("imagenet", path)


def test_unknown_file_warns_with_both_hashes(saved, state):
    with pytest.warns(WeightsWarning, match="08629f7e"):
        load_body("radimagenet", saved(state))


# --- finding ------------------------------------------------------------------------------------------------------


def test_places_in_order(tmp_path, monkeypatch):
    mine, hub = tmp_path / "mine", tmp_path / "hub"
    name = BACKBONES["imagenet"].filename
    monkeypatch.setenv("OVF_DLR_WEIGHTS", str(mine))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    with pytest.raises(WeightsError, match="put them at"):
        find_weights("imagenet", download=False)
    for folder in (hub / "checkpoints", mine):  # the later one comes first
        folder.mkdir(parents=True)
        (folder / name).touch()
        assert find_weights("imagenet", download=False) == folder / name
    (tmp_path / "given.pth").touch()
    assert find_weights("imagenet", tmp_path / "given.pth") == tmp_path / "given.pth"
    with pytest.raises(WeightsError, match="no weight file"):
        find_weights("imagenet", tmp_path / "not_there.pth")


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), TimeoutError("timed out"), PermissionError("read-only")])
def test_no_internet_says_what_to_put_where(tmp_path, monkeypatch, error):
    def offline(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(WeightsError) as e:
        find_weights("radimagenet", folder=tmp_path / "w")
    for part in ("ResNet50.pt", "huggingface.co/Lab-Rasool/RadImageNet", str(tmp_path / "w"), str(error.args[0])):
        assert part in str(e.value)


def test_training_never_falls_back_to_random(tmp_path, monkeypatch):
    monkeypatch.setenv("OVF_DLR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    crops = np.random.default_rng(0).random((4, 32, 32), dtype="float32")
    with pytest.raises(WeightsError, match="put them at"):
        fine_tune(crops, [0, 1, 2, 0], "radimagenet-keras", settings=Training(epochs=1))


# --- saved networks -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    crops = np.random.default_rng(0).random((4, 32, 32), dtype="float32")
    return fine_tune(crops, [0, 1, 2, 0], "random", settings=Training(epochs=0, threads=1))


@pytest.fixture
def folder(network, tmp_path):
    return network.save(tmp_path / "model")


def refused(folder, match):
    with pytest.raises(WeightsError, match=match):
        Network.load(folder)


@pytest.mark.parametrize("name", ["network.json", "network.safetensors"])
def test_half_a_network(folder, name):
    (folder / name).unlink()
    refused(folder, f"{name} is missing")


def test_no_partial_files_are_left(folder):
    assert sorted(p.name for p in folder.iterdir()) == ["network.json", "network.safetensors"]


def test_damaged_card(folder):
    (folder / "network.json").write_text("{")
    refused(folder, "not JSON")


@pytest.mark.parametrize("card", ["[]", "{}", '{"kind": "ovf_dlr.transfer.Network", "version": 99}', '{"kind": "sklearn", "version": 1}'])
def test_foreign_card(folder, card):
    (folder / "network.json").write_text(card)
    refused(folder, "not the card of a network")


def test_damaged_tensors(folder):
    data = bytearray((folder / "network.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "network.safetensors").write_bytes(data)
    refused(folder, "damaged, or from another run")


def test_tensors_of_another_network(folder, network):
    card = json.loads((folder / "network.json").read_text())
    tensors = {k: v.contiguous() for k, v in network.model.state_dict().items() if k != "head.bias"}
    save_file(tensors, folder / "network.safetensors")
    (folder / "network.json").write_text(json.dumps(card | {"sha256": weights_sha256(folder / "network.safetensors")}))
    refused(folder, "head.bias")


def test_a_failed_save_leaves_the_old_network_whole(network, folder, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(transfer, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        network.save(folder)
    assert Network.load(folder).card == json.loads(json.dumps(network.card))


def test_moved_folder_loads(folder, network, tmp_path):
    crops = np.random.default_rng(1).random((3, 32, 32), dtype="float32")
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert np.array_equal(Network.load(moved).embed(crops), network.embed(crops))
