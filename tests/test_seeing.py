"The maps of where a network looks, against captum: the same numbers found another way."

import numpy as np
import pytest
import torch
from captum import attr
from torch import nn

from ovf_dlr.attention import _class_maps, activation_map, occlusion_map
from ovf_dlr.training import N_CLASSES, Execution, Training, TrainingRows
from ovf_dlr.transfer import fine_tune

SIZE, N = 96, 6


@pytest.fixture(scope='module')
def crops():
    "Crops with something bright, each at a place of its own."
    g = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    at = g.uniform(0.2 * SIZE, 0.8 * SIZE, (2, N, 1, 1))
    blob = np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * (SIZE / 8) ** 2))
    return (0.2 + 0.6 * blob + g.normal(0, 0.05, blob.shape)).clip(0, 1).astype('float32')


@pytest.fixture(scope='module', params=['random:resnet18', 'random:shufflenet_v2_x0_5'])
def network(request, crops):
    return fine_tune(
        TrainingRows(crops, np.arange(N) % N_CLASSES),
        request.param,
        settings=Training(epochs=1, batch_size=2, lr_backbone=1e-3, threads=1),
        run=Execution(device='cpu'),
    )


class Margin(nn.Module):
    "What the maps explain, written down once more: the score of a class less the mean of all."

    def __init__(self, network):
        super().__init__()
        self.network = network.model.eval()

    def forward(self, x):
        scores = self.network(x)
        return scores - scores.mean(1, keepdim=True)


def grad_cam(network, crops, target):
    "captum's Grad-CAM at the last feature maps, (n, 1, h, w), for a class of each crop."
    return (
        attr.LayerGradCam(Margin(network), network.model.body)
        .attribute(torch.from_numpy(crops), target=[int(t) for t in target])
        .detach()
    )


def close(ours, theirs, digits=1e-4):
    "Equal but for rounding, as a fraction of the largest value; a constant map proves nothing."
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert theirs.std() > 0.01 * np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=digits * np.abs(theirs).max())


@pytest.mark.parametrize('target', range(N_CLASSES))
def test_class_maps_are_grad_cam(network, crops, target):
    "The gradient through an average over places is the weight divided by their number."
    theirs = grad_cam(network, crops, [target] * N)[:, 0]
    assert theirs.shape == (N, SIZE // 32, SIZE // 32)
    close(_class_maps(network, crops)[:, target], theirs * theirs[0].numel())


def test_the_comparison_tells_classes_and_crops_apart(network, crops):
    theirs = grad_cam(network, crops, [1] * N)[:, 0]
    for ours in (_class_maps(network, crops)[:, 0], _class_maps(network, crops)[::-1, 1]):
        with pytest.raises(AssertionError):
            close(ours, theirs * theirs[0].numel())


@pytest.mark.parametrize(
    'target', [None, 2, np.arange(N)[::-1] % N_CLASSES], ids=['predicted', 'one', 'each']
)
def test_activation_maps_are_grad_cam_enlarged(network, crops, target):
    cam = grad_cam(
        network,
        crops,
        network.predict(crops, 'cpu').argmax(1) if target is None else np.broadcast_to(target, N),
    )
    theirs = attr.LayerAttribution.interpolate(
        cam * cam[0].numel(), (SIZE, SIZE), interpolate_mode='bilinear'
    )
    close(activation_map(network, crops, target, 'cpu'), theirs[:, 0])


@pytest.mark.parametrize('window', [32, 48])
def test_occlusion_maps_are_captums(network, crops, window):
    """captum too averages over the windows that cover a pixel. It cuts off windows that do not fit,
    and ours moves them back: these fit."""
    assert (SIZE - window) % (window // 2) == 0
    few, target = torch.from_numpy(crops[:2]), [1, 2]
    grey = few.mean((1, 2), keepdim=True).expand_as(few)
    with torch.no_grad():
        theirs = attr.Occlusion(Margin(network)).attribute(
            few, (window, window), strides=(window // 2, window // 2), baselines=grey, target=target
        )
    close(occlusion_map(network, crops[:2], np.array(target), window, 'cpu'), theirs, digits=1e-3)
