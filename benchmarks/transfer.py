"""Fine-tuning at the size of the paper: 712 crops of 224 px, 30 epochs, ResNet-50; and embeddings.

    .venv/bin/python -P benchmarks/transfer.py                          # on a GPU if there is one
    .venv/bin/python -P benchmarks/transfer.py --epochs 1 --size 64     # a taste of it on a CPU

Crops are noise (time does not depend on what they show) and the backbone is random (nor on the
weights). Besides the time in all, the benchmark prints how much of it went into preparing batches,
which should be next to nothing, and, with --plain, the same training without mixed precision.
"""

import argparse
import json
import platform
import time

import numpy as np
import torch

from ovf_dlr import transfer
from ovf_dlr.training import ArrayLoader, Execution, Training, TrainingRows
from ovf_dlr.transfer import fine_tune


def timed(function):
    "Result and seconds; a GPU is waited for."
    start = time.perf_counter()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def loading(crops, labels, settings):
    "Seconds that the batches of one epoch take when nothing is trained on them."
    return timed(
        lambda: [
            None
            for _ in ArrayLoader(
                crops, labels, settings.batch_size, shuffle=True, augment=settings.augment
            )
        ]
    )[1]


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--n', type=int, default=712)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--epochs', type=int, default=30)
    parser.add_argument('--device', default='auto')
    parser.add_argument('--plain', action='store_true', help='also without mixed precision')
    parser.add_argument('--json', help='write the numbers here')
    a = parser.parse_args()
    rng = np.random.default_rng(0)
    crops, labels = rng.random((a.n, a.size, a.size), dtype=np.float32), np.arange(a.n) % 3
    rows, device = TrainingRows(crops, labels), transfer._device(a.device)
    name = (
        torch.cuda.get_device_name()
        if device.startswith('cuda')
        else f'{platform.machine()} CPU, {torch.get_num_threads()} threads'
    )
    print(f'{name}, torch {torch.__version__}: {a.n} crops of {a.size} px, {a.epochs} epochs')
    found = dict(device=name, torch=torch.__version__, n=a.n, size=a.size, epochs=a.epochs)
    for mixed in (True, False) if a.plain else (True,):
        settings = Training(epochs=a.epochs, augment=True, mixed_precision=mixed)
        network, seconds = timed(
            lambda: fine_tune(rows, 'random', settings=settings, run=Execution(device=device))
        )
        _, embedding = timed(lambda: network.embed(crops, device=device))
        share = loading(crops, labels, settings) * a.epochs / seconds
        key = 'mixed precision' if mixed and device.startswith('cuda') else 'single precision'
        found[key] = dict(seconds=seconds, embedding=embedding, loading_share=share)
        print(
            f'{key:16} {seconds:8.1f} s fine-tuning '
            f'({seconds / a.epochs / a.n * 1000:.2f} ms per crop and epoch), '
            f'{share:.0%} of it preparing batches; {embedding:.1f} s embedding'
        )
    if a.json:
        with open(a.json, 'w') as file:
            json.dump(found, file, indent=1)
