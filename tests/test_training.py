"The options of fine-tuning in a study, and a study that is killed in the middle of it."

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import command

from ovf_dlr import transfer
from ovf_dlr.pipeline import fingerprint
from ovf_dlr.settings import Settings
from ovf_dlr.study import Study

EPOCHS, FOLDS = 3, 2


def toy_cohort(noise=0):
    """48 training vertebrae of 24 patients and 6 internal ones, with their crops; `noise` draws the
    internal ones again, pixels and classes."""
    ids = [f'V{i:02}' for i in range(54)]
    table = pd.DataFrame(
        dict(
            patient_id=[f'P{i // 2:02}' for i in range(54)],
            split=['train'] * 48 + ['internal'] * 6,
            fracture_class=[(i + noise * (i > 47)) % 3 if i > 2 else 0 for i in range(54)],
        ),
        ids,
    )
    crops = np.random.default_rng(0).random((54, 32, 32), dtype='float32') * 0.5
    crops[:, 8:24, 8:24] += 0.15 * table.fracture_class.to_numpy()[:, None, None]
    if noise:
        crops[48:] = np.random.default_rng(noise).random((6, 32, 32), dtype='float32')
    return SimpleNamespace(vertebrae=table, digest=fingerprint(table.to_dict(), noise)), pd.Series(
        list(crops), ids
    )


def toy_study(folder, noise=0, epochs=EPOCHS, **training):
    "A study whose radiographs are already cut into crops, everything it keeps under `folder`."
    settings = Settings(
        backbones=['random:resnet18'],
        epochs=epochs,
        cross_fit_folds=FOLDS,
        learning_rate_backbone=1e-3,
        threads=1,
        training=training,
    )
    study = Study(settings, 'random:resnet18', out=folder / 'results', n_jobs=1)
    study.cache = folder / 'cache'
    study._values.update(zip(('cohort', 'crops'), toy_cohort(noise), strict=True))
    return study


def same_tensors(a, b):
    a, b = a.model.state_dict(), b.model.state_dict()
    return all(torch.equal(a[k], b[k]) for k in a)


class Struck(transfer.Resume):
    "Keeps every epoch, notes it in a file, and kills the process by itself after so many."

    notes, after, seen = None, None, 0

    def after_epoch(self):
        super().after_epoch()
        if self.learn.epoch_history.fresh:
            Struck.seen += 1
            with open(Struck.notes, 'a') as f:
                f.write(f'{self.folder.name} {self.epoch + 1}\n')
            if Struck.seen == Struck.after:
                os.kill(os.getpid(), signal.SIGKILL)


def embed_and_die(folder, after):
    "What the child process does."
    Struck.notes, Struck.after = Path(folder) / 'epochs.txt', int(after)
    transfer.Resume = partial(Struck, seconds=0.0)
    toy_study(Path(folder), keep_best=True, augment=True, dropout=0.2).embeddings


def child(folder, after):
    code = f'import test_training; test_training.embed_and_die({str(folder)!r}, {after})'
    return subprocess.run(
        [sys.executable, '-c', code], cwd=Path(__file__).parent, capture_output=True, text=True
    )


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    "A study of one epoch without options."
    return toy_study(tmp_path_factory.mktemp('plain'), epochs=1)


def test_a_run_killed_while_it_trains_goes_on_bit_by_bit(tmp_path):
    killed, finished = tmp_path / 'killed', tmp_path / 'finished'
    killed.mkdir()
    unfinished = killed / 'cache' / 'unfinished'
    for after in (
        2,
        1 + EPOCHS + 2,
    ):  # in the second epoch of the network; then in that of the second fold
        assert (done := child(killed, after)).returncode == -signal.SIGKILL, done.stderr
        assert len(list(unfinished.glob('*/*/state.pt'))) == 1, (
            'one training was in work, what was finished is gone'
        )
        assert not any(
            toy_study(killed, augment=True).resource('unfinished', Study.stages()[s]).exists()
            for s in ('network', 'embeddings')
        ), "another study would go on from this one's state"
    assert (done := child(killed, 99)).returncode == 0, done.stderr
    assert list(unfinished.iterdir()) == []
    epochs = (killed / 'epochs.txt').read_text().splitlines()
    assert len(epochs) == len(set(epochs)) == EPOCHS * (1 + FOLDS), (
        'an epoch was trained twice, or never'
    )
    there, here = (
        toy_study(f, keep_best=True, augment=True, dropout=0.2) for f in (killed, finished)
    )
    assert (
        same_tensors(there.network, here.network)
        and there.network.history.equals(here.network.history)
        and there.network.card == here.network.card
    )
    pd.testing.assert_frame_equal(there.embeddings, here.embeddings, check_exact=True)


@pytest.mark.parametrize(
    'training',
    [
        dict(class_weights=True),
        dict(focal_gamma=2),
        dict(augment=True),
        dict(dropout=0.5),
        dict(lr_min=1e-3),
        dict(keep_best=True),
    ],
    ids=str,
)
def test_each_option_reaches_the_network_of_the_study(tmp_path, plain, training):
    study = toy_study(tmp_path, epochs=1, **training)
    ((name, value),) = training.items()
    assert study.network.card['settings'][name] == value and not same_tensors(
        study.network, plain.network
    )


def test_without_options_the_internal_set_is_watched_and_chooses_nothing(plain, tmp_path):
    assert (
        plain.network.card['n'] == 48
        and plain.network.card['n_valid'] == 6
        and plain.network.card['kept_epoch'] is None
    )
    other = toy_study(tmp_path, noise=1, epochs=1)
    assert same_tensors(plain.network, other.network) and not plain.network.history.equals(
        other.network.history
    )


def test_the_internal_set_has_no_say_in_the_epoch(tmp_path):
    before, after = (
        toy_study(tmp_path, keep_best=True),
        toy_study(tmp_path, noise=1, keep_best=True),
    )
    assert before.key('network') != after.key('network')
    assert same_tensors(before.network, after.network) and before.network.history.equals(
        after.network.history
    )
    card = before.network.card
    assert (
        card['n'] + card['n_valid'] == 48
        and 0 < card['n_valid'] < 24
        and 1 <= card['kept_epoch'] <= EPOCHS
    )


def test_every_fold_chooses_its_epoch_without_the_patients_it_embeds(monkeypatch):
    trained, plain_fine_tune = [], transfer.fine_tune

    def watched(rows, *args, **kw):
        trained.append((rows.patient_id, plain_fine_tune(rows, *args, **kw)))
        return trained[-1][1]

    monkeypatch.setattr(transfer, 'fine_tune', watched)
    cohort, crops = toy_cohort()
    v = cohort.vertebrae[cohort.vertebrae.split == 'train']
    patient_id, labels = v.patient_id.to_numpy(), v.fracture_class.to_numpy()
    transfer.cross_fit_embeddings(
        transfer.TrainingRows(np.stack(list(crops[v.index])), labels, patient_id),
        'random:resnet18',
        settings=transfer.Training(epochs=2, keep_best=True, threads=1),
        folds=FOLDS,
    )
    assert len(trained) == FOLDS
    for (fitted, network), (_, held) in zip(
        trained, transfer._patient_folds(labels, patient_id, FOLDS, 0), strict=True
    ):
        assert not set(fitted) & set(patient_id[held])
        assert (
            network.card['n'] + network.card['n_valid'] == len(fitted) == len(v) - len(held)
            and network.card['kept_epoch']
        )


def test_a_misspelt_option_ends_the_command_with_the_nearest_one(data, tmp_path):
    file = tmp_path / 'mine.yml'
    file.write_text('cohort: phantom:smoke\nbackbones: [random]\ntraining: {keep_bets: true}\n')
    done = command(data, 'run', '--params', file, '--out', tmp_path / 'out', check=False)
    assert (
        done.returncode == 2
        and "did you mean 'keep_best'?" in done.stdout
        and 'Traceback' not in done.stderr
    ), done.stdout + done.stderr
    assert not (tmp_path / 'out').exists()
