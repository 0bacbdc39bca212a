"The key of a stage follows the code that makes its result, and nothing else."

import json
import shutil
import subprocess
import sys
from textwrap import dedent

import pytest
from conftest import ROOT

# (module, text, what it becomes): nothing that computes
UNCHANGED = [
    ('artefacts', 'fontsize=5', 'fontsize=6'),
    ('artefacts', '{caption} {study.caption}', '{caption}: {study.caption}'),
    ('sources', 'random initialisation', 'started at random'),
    ('cluster', 'timeout', 'time_limit'),
    ('evaluation_figures', 'alpha=', 'linewidth=1, alpha='),
    ('auc', 'The order from low to high', 'From low to high'),
    ('study', 'Radiomic features of the second readings', 'Second readings'),
    ('cohort', 'Simulated radiographs: no', 'Synthetic radiographs: no'),
    ('settings', 'out-of-fold: features harmonised', 'by fold: features harmonised'),
    ('preprocess', 'body of {', 'body: {'),
]

# (module, text, what it becomes, stages that must get another key, stages that must keep theirs)
CHANGED = [
    ('preprocess', 'sd = np.sqrt(', 'sd = np.cbrt(', 'radiomics crops network', ''),
    ('decoding', "'MONOCHROME1'", "'MONOCHROME3'", 'radiomics crops inspection', ''),
    ('filters', '** 2)', '** 3)', 'radiomics', 'crops network'),
    ('radiomics', '1.5', '1.6', 'radiomics repeatability', 'crops'),
    ('morphometry', '0.5', '0.51', 'radiomics', 'crops'),
    ('repeatability', 'k - 1', 'k - 2', 'repeatability selection', 'radiomics crops'),
    ('harmonise', 'np.sqrt(', 'np.cbrt(', 'harmonisation selection', 'radiomics embeddings'),
    ('batch_effect', 'min(5,', 'min(4,', 'batch_effects', 'harmonisation'),
    ('backbones', 'averages[-1]', 'averages[0]', 'network embeddings', 'radiomics'),
    ('weights', 'running_mean', 'running_median', 'network', 'radiomics'),
    ('training', '1 - logp.exp()', '1 + logp.exp()', 'network embeddings', 'radiomics crops'),
    ('transfer', 'resume', 'resumed', 'network embeddings', 'radiomics crops'),
    ('attention', 'maps.sum(', 'maps.max(', 'attention', 'network embeddings performance'),
    ('lasso', 'n_lambdas', 'n_lambdas_', 'selection fused searches', 'embeddings'),
    ('fusion', '**2', '**3', 'selection radscore', 'embeddings harmonisation'),
    ('stability', 'n_bootstraps', 'n_samples', 'stability', 'selection'),
    ('classifiers', 'max_iter', 'max_iter_', 'searches performance explanation', 'selection'),
    ('patients', '1000 * draw', '999 * draw', 'selection searches cross_validated', 'radiomics'),
    ('auc', '1 / 3', '1 / 2', 'performance shortcuts', 'predictions'),
    ('evaluation', '0.95', '0.9', 'performance', 'predictions'),
    ('calibration', 'bins', 'bins_', 'calibration', 'predictions performance'),
    (
        'explain',
        'background, seed, rows, rounds',
        'background, seed, rounds, rows',
        'explanation',
        'predictions',
    ),
    ('selection', '>= rules.icc_threshold', '> rules.icc_threshold', 'selection', 'repeatability'),
    ('features', "== 'train'", "!= 'train'", 'second_readings repeatability', 'crops'),
    ('shortcuts', "calibrate='svm'", "calibrate='all'", 'shortcuts', 'performance'),
    ('study', 'training_rows(v).index)', 'v.index)', 'harmonisation', 'radiomics'),
    ('study', "table.split == 'train'", 'table.split', 'harmonisation network', 'radiomics crops'),
    ('study', 'Tuning(rules.grid', 'Tuning(rules.tuning', 'searches cross_validated', 'selection'),
    ('audit', 'TURNS', 'TURNED', 'inspection', 'radiomics'),
    ('preprocess', '>= 0.5', '> 0.5', 'crop_masks attention', 'radiomics crops network'),
    # what is made of settings by a function, and by the settings themselves
    (
        'settings',
        'lr_backbone=rules.learning_rate_backbone',
        'lr_backbone=rules.learning_rate',
        'network embeddings nested_embeddings learning_rate_search attention',
        'radiomics crops',
    ),
    ('settings', 'return kind(**{', 'return kind(*{', 'crops network searches', 'inspection'),
    # a property of the cohort, which no stage makes, and what it rests on
    ('cohort', 'for s in SPLITS if', 'for s in SPLITS[1:] if', 'attention', 'crop_masks network'),
    ('manifest', "SPLITS = ('train'", "SPLITS = ('training'", 'attention', 'crop_masks network'),
    # methods of objects that another stage made, or this one: of a class, of a dataclass, patched
    ('selection', 'return self.lasso.transform(', 'return (', 'fused searches', 'embeddings'),
    ('training', 'self.labels[rows], patient_id)', 'self.labels[rows])', 'embeddings', 'radiomics'),
    ('transfer', 'self.model[:3]', 'self.model[:2]', 'embeddings shortcuts', 'radiomics crops'),
]


@pytest.fixture(scope='module')
def keys(tmp_path_factory):
    "A function that gives the key of every stage for a copy of the package with edits."
    copy = tmp_path_factory.mktemp('package')
    shutil.copytree(ROOT / 'ovf_dlr', copy / 'ovf_dlr')
    script = dedent("""
        import ast, json, sys
        import ovf_dlr.source_code as code
        from ovf_dlr.study import Study
        from pathlib import Path

        edited, modules, known = {}, {}, {}
        read, look_up = code.definitions.__wrapped__, code._definition.__wrapped__

        def definitions(module):
            if module not in edited and module not in modules:
                modules[module] = read(module)
            return edited.get(module) or modules[module]

        def definition(module, name):
            if module in edited:
                return look_up(module, name)
            if (module, name) not in known:
                known[module, name] = look_up(module, name)
            return known[module, name]

        def stage_code():
            code.definitions, code._definition = definitions, definition
            code.reached.cache_clear(), code.code_key.cache_clear()
            return {name: stage.code for name, stage in Study.stages().items()}

        def upstream(name):
            needs = Study.stages()[name].needs.names
            return {name}.union(*(upstream(n) for n in needs if n in Study.stages()))

        base, rows = stage_code(), []
        for module, old, new in json.loads(sys.stdin.read()):
            path = Path(code.find_spec(f'ovf_dlr.{module}').origin)
            text = path.read_text()
            path.write_text(text.replace(old, new))
            edited[module] = read(module)
            moved = {n for n, c in stage_code().items() if c != base[n]}
            path.write_text(text)
            edited.clear()
            through = [n for n in base if moved & upstream(n)]
            rows.append(dict(found=old in text, moved=through))
        print(json.dumps(rows))
    """)

    def of(edits) -> list[dict]:
        "For each edit: was its text found, and which stages get another key?"
        done = subprocess.run(
            [sys.executable, '-c', script],
            input=json.dumps(edits),
            capture_output=True,
            text=True,
            cwd=copy,
            env={'PYTHONPATH': str(copy), 'PATH': ''},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return of


def test_captions_comments_titles_and_drawings_move_no_key(keys):
    for edit, row in zip(UNCHANGED, keys([e[:3] for e in UNCHANGED]), strict=True):
        assert row['found'], f'{edit[0]} has no text {edit[1]!r}'
        assert not row['moved'], f'{edit}: {row["moved"]}'


def test_a_formula_moves_the_key_of_every_stage_that_rests_on_it(keys):
    for edit, row in zip(CHANGED, keys([e[:3] for e in CHANGED]), strict=True):
        module, old, _, moved, kept = edit
        assert row['found'], f'{module} has no text {old!r}'
        assert set(moved.split()) <= set(row['moved']), f'{module} {old!r}: {row["moved"]}'
        assert not set(kept.split()) & set(row['moved']), f'{module} {old!r}: {row["moved"]}'
