"Every broken weight file has a message of its own; nbs/30_weights.ipynb shows good files."

import dataclasses
import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import shutil
import tarfile
import threading
import urllib.error
import warnings
import zipfile

import h5py
import huggingface_hub.constants
import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from ovf_dlr import own_weights, transfer, weights
from ovf_dlr.attention import activation_map
from ovf_dlr.backbones import (
    BACKBONES,
    WeightsError,
    WeightsWarning,
    body_channels,
    get_backbone,
    new_body,
)
from ovf_dlr.network_figures import stages
from ovf_dlr.own_weights import add_weights, list_weights, verify_weights
from ovf_dlr.training import Training, TrainingRows
from ovf_dlr.transfer import Network, cross_fit_embeddings, fine_tune
from ovf_dlr.weights import find_weights, load_body, read_weights, weights_format, weights_sha256


@pytest.fixture(scope='module')
def state():
    "A torchvision ResNet-50 state dict that looks trained, in half precision to keep files small."
    torch.manual_seed(0)
    shapes = weights._shapes()
    return {
        k: (torch.rand(s) + 0.5 if 'var' in k else torch.randn(s) * 0.1).half()
        for k, s in shapes.items()
    }


@pytest.fixture
def saved(tmp_path):
    "Write an object with torch, give the path."

    def save(obj, name='ResNet50.pt', **kwargs):
        torch.save(obj, tmp_path / name, **kwargs)
        return tmp_path / name

    return save


def fails(match, path):
    with pytest.raises(WeightsError, match=match) as e:
        read_weights(path)
    assert str(path) in str(e.value), 'the message does not name the file'
    return str(e.value)


# --- files that are no weight files


@pytest.mark.parametrize(
    'content, match',
    [
        (b'', 'is empty'),
        (
            b'version https://git-lfs.github.com/spec/v1\noid sha256:08629f\nsize 94343463\n',
            'git lfs pull',
        ),
        (
            b'<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>',
            'web page',
        ),
        (b"  \n<html lang='en'>", 'web page'),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", 'web page'),
        (gzip.compress(b'weights', mtime=0), 'archive'),
        (b'Rar!\x1a\x07\x00' + b'0' * 100, 'archive'),
        (b'7z\xbc\xaf\x27\x1c' + b'0' * 100, 'archive'),
        (b'Not Found', 'neither a torch'),
        (bytes(range(256)) * 4, 'neither a torch'),
    ],
)
def test_not_a_weight_file(tmp_path, content, match):
    path = tmp_path / 'ResNet50.pt'
    path.write_bytes(content)
    fails(match, path)


def test_the_zip_the_weights_came_in(tmp_path):
    path = tmp_path / 'RadImageNet_pytorch.zip'
    with zipfile.ZipFile(path, 'w') as z:
        z.writestr('RadImageNet_pytorch/ResNet50.pt', b'inside')
    fails('unpack it', path)


def test_tar_of_torch_before_2017(tmp_path):
    path = tmp_path / 'resnet50-19c8e357.pth'
    with tarfile.open(path, 'w') as t:
        info = tarfile.TarInfo('storages')
        info.size = 4
        t.addfile(info, io.BytesIO(b'1234'))
    assert 'resnet50-0676ba61.pth' in fails('before 2017', path)


# --- weight files cut short


@pytest.mark.parametrize('keep', [0.001, 0.5, 0.999])
def test_truncated_torch(saved, state, keep):
    path = saved(state)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    fails('ends too early', path)


@pytest.mark.parametrize('keep', [0.001, 0.5, 0.999])
def test_truncated_legacy_pickle(saved, state, keep):
    path = saved(state, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    fails('ends too early', path)


@pytest.mark.parametrize('keep', [0.001, 0.9])
def test_truncated_safetensors(tmp_path, state, keep):
    path = tmp_path / 'ResNet50.safetensors'
    save_file(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    fails('ends too early', path)


def test_truncated_hdf5(tmp_path):
    path = tmp_path / 'notop.h5'
    with h5py.File(path, 'w') as f:
        f['conv1_conv/conv1_conv/kernel:0'] = np.zeros((7, 7, 3, 64))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    fails('ends too early', path)


def test_damaged_inside_torch_zip(saved, state):
    "A flipped block in the middle of an otherwise complete file must not become weights."
    path = saved(state)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2] = (
        b'\x00\x7c'  # half-precision infinity, or a broken record
    )
    path.write_bytes(data)
    assert weights_format(path) == 'torch'
    with pytest.raises(WeightsError):
        read_weights(path)


# --- pickles


class Bomb:
    "Runs code when unpickled."

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a weight file was run')",))


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_weight_file_never_runs(saved, zipped):
    fails('state_dict', saved({'state_dict': Bomb()}, _use_new_zipfile_serialization=zipped))


def test_plain_pickle(tmp_path):
    path = tmp_path / 'ResNet50.pt'
    path.write_bytes(pickle.dumps({'a': Bomb()}))
    with pytest.raises(WeightsError):
        read_weights(path)


def test_whole_model(saved):
    fails('whole pickled model', saved(torch.nn.Linear(2, 2)))


def test_legacy_pickle_of_good_weights_is_read(saved, state):
    assert len(read_weights(saved(state, _use_new_zipfile_serialization=False))) == 265


# --- tensors that are not a ResNet-50


@pytest.mark.parametrize(
    'obj', [torch.zeros(3), [torch.zeros(3)], {}, {'epoch': 3}, {'state_dict': {}}]
)
def test_no_state_dict(saved, obj):
    fails('no named tensors', saved(obj))


@pytest.mark.parametrize(
    'lost', ['conv1.weight', 'layer4.2.bn3.running_var', 'layer2.0.downsample.0.weight']
)
def test_one_tensor_missing(saved, state, lost):
    message = fails('lack 1 of the 265', saved({k: v for k, v in state.items() if k != lost}))
    assert lost in message


def test_other_architecture(saved):
    message = fails('lack', saved({'features.conv0.weight': torch.zeros(64, 3, 7, 7)}))
    assert 'features.conv0.weight' in message and 'another architecture' in message


def test_unknown_prefix_is_not_guessed(saved, state):
    fails('lack 265 of the 265', saved({f'encoder.{k}': v for k, v in state.items()}))


@pytest.mark.parametrize(
    'name, shape',
    [
        ('conv1.weight', (64, 1, 7, 7)),
        ('layer1.0.conv2.weight', (128, 128, 3, 3)),
        ('bn1.weight', (1, 64)),
    ],
)
def test_wrong_shape(saved, state, name, shape):
    assert str(shape) in fails('another shape', saved(state | {name: torch.ones(shape)}))


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_not_finite(saved, state, value):
    bad = state['layer3.1.conv2.weight'].clone()
    bad[0, 0, 0, 0] = value
    assert 'layer3.1.conv2.weight' in fails(
        'NaN or infinite', saved(state | {'layer3.1.conv2.weight': bad})
    )


def test_one_untrained_layer(saved, state):
    new = {
        'layer4.0.bn2.running_mean': torch.zeros(512),
        'layer4.0.bn2.running_var': torch.ones(512),
    }
    assert 'layer4.0.bn2' in fails('never trained', saved(state | new))


def test_radimagenet_classifier_head_is_ignored_and_names_are_needed(saved, state):
    positions = {v: k for k, v in weights._positions().items()}
    named = {
        f'module.backbone.{positions[k.split(".")[0]]}.{k.split(".", 1)[1]}': v
        for k, v in state.items()
    }
    extra = {'module.classifier.linear.weight': torch.zeros(165, 2048)}
    assert set(read_weights(saved({'state_dict': named | extra}))) == set(state)
    shifted = {k.replace('backbone.4.', 'backbone.3.'): v for k, v in named.items()}
    fails('layer1.0.conv1.weight', saved(shifted))


# --- Keras


@pytest.fixture
def keras(tmp_path, state):
    "The layers of a Keras file, and a function that writes them."
    inverse = {v: k for k, v in weights._KERAS_WEIGHTS.items() if v != 'weight'}
    layers = {}
    for k, v in state.items():
        stem, weight = k.rsplit('.', 1)
        parts = stem.split('.')
        if len(parts) == 1:
            layer = 'conv1_conv' if stem == 'conv1' else 'conv1_bn'
        else:
            kind = 'conv' if 'conv' in stem or stem.endswith('downsample.0') else 'bn'
            part = 0 if 'downsample' in stem else parts[2][-1]
            layer = f'conv{int(parts[0][-1]) + 1}_block{int(parts[1]) + 1}_{part}_{kind}'
        a = v.float().numpy()
        leaf = ('kernel' if a.ndim == 4 else 'gamma') if weight == 'weight' else inverse[weight]
        layers[layer, leaf] = a.transpose(2, 3, 1, 0) if a.ndim == 4 else a

    def write(layers, root='model_weights/'):
        path = tmp_path / 'RadImageNet-ResNet50_notop.h5'
        with h5py.File(path, 'w') as f:
            for (layer, leaf), a in layers.items():
                f[f'{root}{layer}/{layer}/{leaf}:0'] = a
        return path

    return layers, write


@pytest.mark.parametrize('root', ['model_weights/', '', 'model_weights/resnet50/'])
def test_keras_without_biases_at_any_depth(keras, state, root):
    layers, write = keras
    read = read_weights(write(layers, root))
    assert all(torch.equal(read[k], v.float()) for k, v in state.items())


def test_keras_bias_is_folded_into_its_own_normalisation(keras, state):
    layers, write = keras
    bias = np.linspace(-1, 1, 256, dtype='float32')
    read = read_weights(write(layers | {('conv2_block1_0_conv', 'bias'): bias}))
    changed = [k for k, v in state.items() if not torch.equal(read[k], v.float())]
    assert changed == ['layer1.0.downsample.1.running_mean']
    np.testing.assert_allclose(
        read[changed[0]], state[changed[0]].float().numpy() - bias, atol=1e-6
    )


def test_keras_ignores_optimiser_state(keras, state):
    layers, write = keras
    path = write(layers)
    with h5py.File(path, 'a') as f:
        f['optimizer_weights/adam/conv1_conv/kernel:0'] = np.full((7, 7, 3, 64), 9.0)
    assert torch.equal(read_weights(path)['conv1.weight'], state['conv1.weight'].float())


@pytest.mark.parametrize(
    'lost', [('conv3_block4_2_conv', 'kernel'), ('conv1_bn', 'moving_variance')]
)
def test_keras_layer_missing(keras, lost):
    layers, write = keras
    fails('lack 1 of the 265', write({k: v for k, v in layers.items() if k != lost}))


def test_keras_other_network(tmp_path):
    path = tmp_path / 'densenet.h5'
    with h5py.File(path, 'w') as f:
        f['model_weights/conv2_block1_0_bn/x/gamma:0'] = np.ones(64)
    fails('lack 265 of the 265', path)


# --- the right file under the wrong name


def test_keras_file_under_torch_name(keras):
    layers, write = keras
    with pytest.raises(WeightsError, match="belongs to 'radimagenet-keras' alone"):
        load_body('radimagenet', write(layers))


def test_published_file_of_another_backbone(saved, state, monkeypatch):
    path = saved(state)
    published = dataclasses.replace(BACKBONES['imagenet'], sha256=weights_sha256(path)[:8])
    monkeypatch.setitem(BACKBONES, 'imagenet', published)
    with pytest.raises(WeightsError, match="are those of backbone 'imagenet'"):
        load_body('radimagenet', path)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        load_body('imagenet', path)


def test_unknown_file_warns_with_both_hashes(saved, state):
    with pytest.warns(WeightsWarning, match='08629f7e'):
        load_body('radimagenet', saved(state))


# --- finding


def test_places_in_order(tmp_path, monkeypatch):
    mine, hub = tmp_path / 'mine', tmp_path / 'hub'
    name = BACKBONES['imagenet'].filename
    monkeypatch.setenv('OVF_DLR_WEIGHTS', str(mine))
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(hub))
    with pytest.raises(WeightsError, match='put them at'):
        find_weights('imagenet', download=False)
    for folder in (hub / 'checkpoints', mine):  # the later one comes first
        folder.mkdir(parents=True)
        (folder / name).touch()
        assert find_weights('imagenet', download=False) == folder / name
    (tmp_path / 'given.pth').touch()
    assert find_weights('imagenet', tmp_path / 'given.pth') == tmp_path / 'given.pth'
    with pytest.raises(WeightsError, match='no weight file'):
        find_weights('imagenet', tmp_path / 'not_there.pth')


@pytest.mark.parametrize(
    'error',
    [
        urllib.error.URLError('no route to host'),
        TimeoutError('timed out'),
        PermissionError('read-only'),
    ],
)
def test_no_internet_says_what_to_put_where(tmp_path, monkeypatch, error):
    def offline(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    monkeypatch.setattr(weights, 'hf_hub_download', offline)
    monkeypatch.setattr(weights, 'try_to_load_from_cache', lambda *_: None)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    for name, where in (
        ('radimagenet', 'huggingface.co/Lab-Rasool/RadImageNet'),
        ('imagenet', 'download.pytorch.org'),
    ):
        with pytest.raises(WeightsError) as e:
            find_weights(name, folder=tmp_path / 'w')
        for part in (BACKBONES[name].filename, where, str(tmp_path / 'w'), str(error.args[0])):
            assert part in str(e.value)


# --- downloads, from a server of our own: there is no internet where these tests run


@pytest.fixture
def server():
    "An HTTP server of one file that can break off; `requested` lists the first bytes requested."

    class Handler(http.server.BaseHTTPRequestHandler):
        def head(self):
            given = re.match(r'bytes=(\d+)-', self.headers.get('Range') or '')
            start, content = int(given[1]) if given else 0, self.server.content
            self.send_response(206 if given else 200)
            self.send_header('ETag', f'"{self.server.etag or hashlib.sha256(content).hexdigest()}"')
            self.send_header('X-Repo-Commit', 'a' * 40)
            self.send_header('Content-Length', str(len(content) - start))
            if given:
                self.send_header(
                    'Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}'
                )
            self.end_headers()
            return content[start:]

        def do_HEAD(self):
            self.head()

        def do_GET(self):
            if not re.search(r'\.pth?$', self.path):
                return self.send_error(404)
            rest = self.head()
            self.server.requested.append(len(self.server.content) - len(rest))
            cut, self.server.cuts = self.server.cuts > 0, self.server.cuts - 1
            self.wfile.write(rest[: len(rest) // 2] if cut else rest)
            if cut:
                self.close_connection = True

        def log_message(self, *args):
            pass

    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    s.content, s.cuts, s.requested, s.etag = os.urandom(3_000_000), 0, [], ''
    s.url = f'http://127.0.0.1:{s.server_port}'
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield s
    s.shutdown()
    s.server_close()


@pytest.fixture
def fetch(server, tmp_path, monkeypatch):
    "Find the weights of a backbone whose published file is the server's."
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(weights, 'try_to_load_from_cache', lambda *_: None)
    monkeypatch.setattr(huggingface_hub.constants, 'ENDPOINT', server.url)
    monkeypatch.setattr(
        huggingface_hub.constants,
        'HUGGINGFACE_CO_URL_TEMPLATE',
        server.url + '/{repo_id}/resolve/{revision}/{filename}',
    )

    def fetch(name):
        b = BACKBONES[name]
        sha = hashlib.sha256(server.content).hexdigest()
        monkeypatch.setitem(
            BACKBONES,
            name,
            dataclasses.replace(b, url=f'{server.url}/{b.filename}', sha256=sha[: len(b.sha256)]),
        )
        return find_weights(name, folder=tmp_path / 'w')

    return fetch


def _files(folder):
    return sorted(p.name for p in folder.iterdir() if p.is_file())


@pytest.mark.parametrize('name', ['imagenet', 'radimagenet'])
def test_a_download_shows_a_bar_and_is_found_again(name, fetch, server, tmp_path, capfd):
    path = fetch(name)
    assert path.read_bytes() == server.content
    assert '100%' in capfd.readouterr().err
    requested = len(server.requested)
    assert fetch(name) == path and len(server.requested) == requested, 'it was fetched again'
    assert _files(tmp_path / 'w') == [BACKBONES[name].filename]


def test_a_broken_torchvision_download_leaves_nothing(fetch, server, tmp_path):
    server.cuts = 1
    with pytest.raises(WeightsError, match='download failed'):
        fetch('imagenet')
    assert _files(tmp_path / 'w') == []
    assert fetch('imagenet').read_bytes() == server.content


def test_a_broken_hub_download_goes_on(fetch, server, tmp_path, monkeypatch):
    monkeypatch.setattr(
        huggingface_hub.constants, 'DOWNLOAD_CHUNK_SIZE', 100_000
    )  # what has arrived is written in such pieces
    server.cuts = 1
    try:
        path = fetch('radimagenet')  # the hub's client may try again by itself
    except WeightsError:
        assert _files(tmp_path / 'w') == []
        path = fetch('radimagenet')
    assert path.read_bytes() == server.content
    assert server.requested[0] == 0 and 0 < server.requested[1] < len(server.content), (
        'it began again instead of going on'
    )


@pytest.mark.parametrize('name', ['imagenet', 'radimagenet'])
def test_a_file_that_is_not_the_published_one_does_not_stay(
    name, fetch, server, tmp_path, monkeypatch
):
    fetch(name).unlink()
    server.content, published = os.urandom(1000), BACKBONES[name]
    monkeypatch.setitem(BACKBONES, name, published)
    with pytest.raises(WeightsError, match=published.sha256[:8]):
        find_weights(name, folder=tmp_path / 'w')
    assert _files(tmp_path / 'w') == []


def test_what_the_hub_has_fetched_before_is_found(tmp_path, monkeypatch):
    file = tmp_path / 'ResNet50.pt'
    file.touch()
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(
        weights,
        'try_to_load_from_cache',
        lambda repo, name: (
            str(file) if (repo, name) == ('Lab-Rasool/RadImageNet', 'ResNet50.pt') else None
        ),
    )
    assert find_weights('radimagenet', folder=tmp_path / 'w', download=False) == file


# --- weights of one's own


@pytest.fixture(scope='module')
def eighteen():
    "A ResNet-18 state dict that looks trained."
    torch.manual_seed(0)
    state = torchvision.models.resnet18().state_dict()
    return {k: torch.randn_like(v) * 0.1 if k.endswith('mean') else v for k, v in state.items()}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('OVF_DLR_WEIGHTS', str(tmp_path / 'weights'))
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    return tmp_path / 'weights'


def test_a_file_of_the_user_runs_like_a_backbone(home, saved, eighteen):
    add_weights(
        'spine-ct',
        saved({'state_dict': eighteen}, 'mine.pth'),
        'resnet18',
        mean=(0.1, 0.2, 0.3),
        std=0.5,
        lineage='CT',
        licence='ours',
    )
    crops = np.random.default_rng(0).random((6, 32, 32), dtype='float32')
    rows = TrainingRows(crops, [0, 1, 2, 0, 1, 2])
    network = fine_tune(rows, 'spine-ct', settings=Training(epochs=0, threads=1))
    assert network.card['architecture'] == 'resnet18' and network.card['lineage'] == 'CT'
    assert torch.equal(network.model.body.conv1.weight, eighteen['conv1.weight'])
    np.testing.assert_allclose(
        network.model.body.normalise.mean.flatten(), [0.1, 0.2, 0.3], rtol=1e-6
    )


def test_a_network_opens_where_its_backbone_is_unknown(home, saved, eighteen, tmp_path):
    add_weights('spine-ct', saved(eighteen, 'mine.pth'), 'resnet18', mean=0.3, std=0.5)
    crops = np.random.default_rng(0).random((4, 32, 32), dtype='float32')
    network = fine_tune(
        TrainingRows(crops, [0, 1, 2, 0]), 'spine-ct', settings=Training(epochs=1, threads=1)
    )
    folder = network.save(tmp_path / 'network')
    shutil.rmtree(home)
    assert np.array_equal(Network.load(folder).predict(crops), network.predict(crops))


def test_keras_file_of_the_user_keeps_its_geometry(home, keras):
    layers, write = keras
    add_weights('mine', write(layers), mean=0.5, std=0.5)
    body = load_body('mine')
    assert (
        body.layer2[0].conv1.stride == (2, 2)
        and body.layer2[0].conv2.stride == (1, 1)
        and body.bn1.eps == 1.001e-5
    )


@pytest.mark.parametrize(
    'name',
    [
        '',
        'a',
        'A',
        '../up',
        'a/b',
        'a b',
        '.hidden',
        '-x',
        'x-',
        'x' * 65,
        'random-3',
        'imagenet-mine',
        'cohort',
        'comparison',
        'ä1',
        'a:b',
    ],
)
def test_unsafe_names(home, saved, eighteen, name, tmp_path):
    "A colon stands between a backbone and its architecture, and there is no backbone `a`."
    file = saved(eighteen, 'mine.pth')
    words = f"unknown backbone '{name}'" if ':' in name else f"'{name}' cannot be the name"
    with pytest.raises(WeightsError, match=re.escape(words)):
        add_weights(name, file, 'resnet18', mean=0.5, std=0.5)
    assert not list(home.iterdir()) and _files(tmp_path) == ['mine.pth']


@pytest.mark.parametrize(
    'how, words',
    [
        (dict(std=0.5), 'mean of the grey levels'),
        (dict(mean=0.5), 'standard deviation of the grey levels'),
        (dict(mean=(1, 2), std=1), 'one number or three'),
        (dict(mean=0.5, std=0.0), 'no usable number'),
        (dict(mean=float('nan'), std=1.0), 'no usable number'),
        (dict(mean=0.5, std=0.5, architecture='resnet50'), 'of a ResNet-50'),
        (dict(mean=0.5, std=0.5, architecture='resnet17'), 'did you mean'),
    ],
)
def test_nothing_is_added_that_is_not_complete(home, saved, eighteen, how, words):
    with pytest.raises(WeightsError, match=words):
        add_weights('mine', saved(eighteen, 'mine.pth'), **(dict(architecture='resnet18') | how))
    assert not list(home.iterdir())


@pytest.mark.parametrize('breaks', ['save_file', 'json'])
def test_a_full_disk_leaves_nothing_half_written(home, saved, eighteen, monkeypatch, breaks):
    def full(*args, **kwargs):
        raise OSError('no space left on device')

    file = saved(eighteen, 'mine.pth')
    if breaks == 'save_file':
        monkeypatch.setattr(own_weights, 'save_file', full)
    else:
        monkeypatch.setattr(own_weights.Path, 'write_text', full)
    with pytest.raises(OSError, match='no space'):
        add_weights('mine', file, 'resnet18', mean=0.5, std=0.5)
    assert not list(home.iterdir())


def test_the_published_file_is_copied_and_no_other(home, saved, state, monkeypatch):
    file = saved(state, 'downloaded.pt')
    with pytest.raises(WeightsError, match="not the published file of backbone 'radimagenet'"):
        add_weights('radimagenet', file)
    monkeypatch.setitem(
        BACKBONES,
        'radimagenet',
        dataclasses.replace(BACKBONES['radimagenet'], sha256=weights_sha256(file)),
    )
    assert (
        add_weights('radimagenet', file)
        == home / 'ResNet50.pt'
        == find_weights('radimagenet', download=False)
    )
    assert (
        'as published' in verify_weights('radimagenet')
        and list_weights().verified['radimagenet'] == 'yes'
    )
    with pytest.raises(WeightsError, match="those of backbone 'radimagenet', not of 'imagenet'"):
        add_weights('imagenet', file)
    with pytest.raises(WeightsError, match='whose normalisation is known'):
        add_weights('mine', file, mean=0.5, std=0.5)
    with pytest.raises(WeightsError, match='is random'):
        add_weights('random', file)


@pytest.mark.parametrize(
    'damage, verified, used, listed',
    [
        ('flip', 'not the file that was added', 'not those that were added', 'no'),
        ('truncate', 'not the file that was added', 'not those that were added', 'no'),
        ('page', 'a web page', 'not those that were added', 'no'),
        ('gone', 'are gone', 'are gone', '-'),
        ('card', r'was changed since it was written \(std\)', r'was changed .* \(std\)', 'yes'),
    ],
)
def test_verify_and_use_see_damage(home, saved, eighteen, damage, verified, used, listed):
    "The list knows the SHA-256 of a file alone, which is right where only the card was changed."
    path = add_weights('mine', saved(eighteen, 'mine.pth'), 'resnet18', mean=0.5, std=0.5)
    data = path.read_bytes()
    if damage == 'flip':
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == 'truncate':
        path.write_bytes(data[:-100])
    elif damage == 'page':
        path.write_bytes(b'<!DOCTYPE html>')
    elif damage == 'gone':
        path.unlink()
    else:
        card = path.with_suffix('.json')
        card.write_text(json.dumps(json.loads(card.read_text()) | {'std': [1, 1, 1]}))
    for use, words in ((verify_weights, verified), (load_body, used)):
        with pytest.raises(WeightsError, match=words):
            use('mine')
    assert list_weights().verified['mine'] == listed


@pytest.mark.parametrize('card', ['{', '[]', '{}', '{"kind": "ovf_dlr.weights", "version": 9}'])
def test_a_foreign_card_spoils_its_own_line_only(home, card):
    home.mkdir()
    (home / 'strange.json').write_text(card)
    assert list_weights().verified['strange'] == 'no'
    with pytest.raises(WeightsError, match='strange.json'):
        get_backbone('strange')
    assert get_backbone('imagenet').lineage == 'imagenet'


# --- other architectures


def test_one_of_each_family_has_maps_and_keeps_its_names():
    x = torch.rand(2, 64, 64)
    for architecture, channels in [
        ('densenet121', 1024),
        ('efficientnet_b0', 1280),
        ('mobilenet_v3_small', 576),
        ('shufflenet_v2_x1_0', 1024),
        ('squeezenet1_1', 512),
        ('regnet_y_400mf', 440),
        ('mnasnet0_5', 1280),
        ('swin_t', 768),
    ]:
        body = new_body(get_backbone(f'random:{architecture}'))
        with torch.no_grad():
            maps = body.eval()(x)
        assert maps.shape[:2] == (2, channels) and body_channels(body) == channels, architecture
        assert set(body.state_dict()) - {'normalise.mean', 'normalise.std'} <= set(
            weights._plan(architecture).state_dict()
        ), architecture


@pytest.mark.parametrize(
    'name, words',
    [
        ('random:vit_b_16', 'convolutional'),
        ('random:resnet', 'did you mean'),
        ('random:fasterrcnn_resnet50_fpn', 'no architecture'),
        ('random:', 'unknown backbone'),
        ('imagenet:resnet50', "is called 'imagenet'"),
        ('random:resnet50', "is called 'random'"),
        ('imagenet:timm:resnet10t', 'weights add'),
        ('other:resnet18', 'unknown backbone'),
    ],
)
def test_names_that_are_none(name, words):
    with pytest.raises(WeightsError, match=words):
        new_body(get_backbone(name))


def test_densenet_with_torchvisions_old_names_and_radimagenets_positions(saved):
    torch.manual_seed(0)
    state = {
        k: torch.randn_like(v) if k.endswith('mean') else v
        for k, v in torchvision.models.densenet121().state_dict().items()
    }
    old = {re.sub(r'(denselayer\d+\.(?:norm|conv))(\d)', r'\1.\2', k): v for k, v in state.items()}
    assert set(old) != set(state)
    by_position = {
        k.replace('features.', 'backbone.0.', 1): v
        for k, v in state.items()
        if k.startswith('features.')
    }
    for layout in (old, by_position):
        read = read_weights(saved(layout, 'd.pth'), 'densenet121')
        assert all(torch.equal(v, state[k]) for k, v in read.items()) and len(read) == len(
            weights._shapes('densenet121')
        )


def test_untrained_network_without_batch_normalisation(saved):
    state = torchvision.models.convnext_tiny().state_dict()
    with pytest.raises(WeightsError, match='never trained'):
        read_weights(saved(state, 'c.pth'), 'convnext_tiny')
    moved = {k: v + 0.01 if v.ndim == 1 else v for k, v in state.items()}
    assert set(read_weights(saved(moved, 'c.pth'), 'convnext_tiny')) <= set(state)


def test_keras_layout_is_of_resnet50_alone(keras):
    layers, write = keras
    with pytest.raises(WeightsError, match='resnet50 only'):
        read_weights(write(layers), 'densenet121')


def test_without_batch_normalisation_there_is_none_to_freeze(home, saved):
    moved = {
        k: v + 0.01 if v.ndim == 1 else v
        for k, v in torchvision.models.convnext_tiny().state_dict().items()
    }
    add_weights('mine', saved(moved, 'c.pth'), 'convnext_tiny', mean=0.5, std=0.5)
    crops = np.random.default_rng(0).random((4, 32, 32), dtype='float32')
    with pytest.raises(ValueError, match='no batch normalisation'):
        fine_tune(
            TrainingRows(crops, [0, 1, 2, 0]), 'mine', settings=Training(epochs=1, freeze_bn=True)
        )


def test_resnet18_end_to_end(tmp_path):
    crops = np.random.default_rng(0).random((12, 32, 32), dtype='float32')
    rows = TrainingRows(crops, np.arange(12) % 3, np.arange(12) // 2)
    how = dict(settings=Training(epochs=1, threads=1))
    network = fine_tune(rows, 'random:resnet18', **how)
    assert (
        network.embed(crops).shape == (12, 512)
        and network.predict(crops).shape == (12, 3)
        and activation_map(network, crops).shape == crops.shape
    )
    assert cross_fit_embeddings(rows, 'random:resnet18', folds=2, **how).shape == (12, 512)
    same = Network.load(network.save(tmp_path / 'n'))
    assert (
        np.array_equal(same.embed(crops), network.embed(crops))
        and same.card['architecture'] == 'resnet18'
    )
    assert stages(network, 32).parameters.sum() == sum(
        p.numel() for p in network.model.parameters()
    )
    assert np.array_equal(pickle.loads(pickle.dumps(network)).embed(crops), network.embed(crops)), (
        'joblib.Memory keeps networks as pickles'
    )


def test_timm_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'timm', None)
    with pytest.raises(WeightsError, match='pip install timm'):
        get_backbone('random:timm:resnet10t')


def test_timm(home, saved, tmp_path):
    timm = pytest.importorskip('timm', reason='optional: pip install timm')
    crops = np.random.default_rng(0).random((4, 32, 32), dtype='float32')
    rows = TrainingRows(crops, [0, 1, 2, 0])
    network = fine_tune(rows, 'random:timm:resnet10t', settings=Training(epochs=1, threads=1))
    assert network.embed(crops).shape == (4, 512)
    assert np.array_equal(
        Network.load(network.save(tmp_path / 'n')).predict(crops), network.predict(crops)
    )
    model = timm.create_model('resnet10t')
    state = {
        k: torch.randn_like(v) if k.endswith('mean') else v for k, v in model.state_dict().items()
    }
    add_weights('mine', saved(state, 't.pth'), 'timm:resnet10t', mean=0.5, std=0.5)
    model.load_state_dict(state)
    with torch.no_grad():
        ours = load_body('mine').eval()(torch.from_numpy(crops)).mean((2, 3))
        theirs = (
            model.eval()
            .forward_features((torch.from_numpy(crops)[:, None].expand(-1, 3, -1, -1) - 0.5) / 0.5)
            .mean((2, 3))
        )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    for name, words in (
        ('resnet10', 'no architecture'),
        ('vit_tiny_patch16_224', 'no feature maps'),
        ('swin_tiny_patch4_window7_224', 'no feature maps'),
    ):
        with pytest.raises(WeightsError, match=words):
            get_backbone(f'random:timm:{name}')


def test_training_never_falls_back_to_random(tmp_path, monkeypatch):
    monkeypatch.setenv('OVF_DLR_WEIGHTS', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    crops = np.random.default_rng(0).random((4, 32, 32), dtype='float32')
    with pytest.raises(WeightsError, match='put them at'):
        fine_tune(
            TrainingRows(crops, [0, 1, 2, 0]), 'radimagenet-keras', settings=Training(epochs=1)
        )


# --- saved networks


@pytest.fixture(scope='module')
def network():
    crops = np.random.default_rng(0).random((4, 32, 32), dtype='float32')
    return fine_tune(
        TrainingRows(crops, [0, 1, 2, 0]), 'random', settings=Training(epochs=0, threads=1)
    )


@pytest.fixture
def folder(network, tmp_path):
    return network.save(tmp_path / 'model')


def refused(folder, match):
    with pytest.raises(WeightsError, match=match):
        Network.load(folder)


@pytest.mark.parametrize('name', ['network.json', 'network.safetensors'])
def test_half_a_network(folder, name):
    (folder / name).unlink()
    refused(folder, f'{name} is missing')


def test_no_partial_files_are_left(folder):
    assert sorted(p.name for p in folder.iterdir()) == ['network.json', 'network.safetensors']


def test_damaged_card(folder):
    (folder / 'network.json').write_text('{')
    refused(folder, 'not JSON')


@pytest.mark.parametrize(
    'card',
    [
        '[]',
        '{}',
        '{"kind": "ovf_dlr.transfer.Network", "version": 99}',
        '{"kind": "sklearn", "version": 1}',
    ],
)
def test_foreign_card(folder, card):
    (folder / 'network.json').write_text(card)
    refused(folder, 'not the card of a network')


def test_damaged_tensors(folder):
    data = bytearray((folder / 'network.safetensors').read_bytes())
    data[-1] ^= 1
    (folder / 'network.safetensors').write_bytes(data)
    refused(folder, 'damaged, or from another run')


def test_tensors_of_another_network(folder, network):
    card = json.loads((folder / 'network.json').read_text())
    tensors = {k: v.contiguous() for k, v in network.model.state_dict().items() if k != 'head.bias'}
    save_file(tensors, folder / 'network.safetensors')
    (folder / 'network.json').write_text(
        json.dumps(card | {'sha256': weights_sha256(folder / 'network.safetensors')})
    )
    refused(folder, 'head.bias')


def test_a_failed_save_leaves_the_old_network_as_it_was(network, folder, monkeypatch):
    def full(*args, **kwargs):
        raise OSError('no space left on device')

    monkeypatch.setattr(transfer, 'save_file', full)
    with pytest.raises(OSError, match='no space'):
        network.save(folder)
    assert Network.load(folder).card == json.loads(json.dumps(network.card))


def test_moved_folder_loads(folder, network, tmp_path):
    crops = np.random.default_rng(1).random((3, 32, 32), dtype='float32')
    moved = shutil.move(folder, tmp_path / 'elsewhere')
    assert np.array_equal(Network.load(moved).embed(crops), network.embed(crops))
