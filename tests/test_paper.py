"What the package states about the paper, looked up in the paper's own text."

import re

import pytest

from ovf_dlr.paper import CONTRADICTIONS, paper_values

# Words of the paper for both sides of each contradiction, as the scanned text has them. Sums and
# fractions are computed again in nbs/68_paper.ipynb.
QUOTES = {
    'Number of patients': [
        'cohort of 942 patients',
        'In our study, 942 patients',
        '(n=652) (n=125)',
        '(n=68)',
        '(n=96)',
    ],
    'Patients with two and three fractures': [
        '86 patients had experienced 2 osteoporotic',
        '24 had 3 OVFs',
        'to 1076',
        '712 vertebrae from 178 vertebrae from',
        '75 vertebrae from',
        '111 vertebrae from',
    ],
    'Vertebrae per patient': [
        'random assignment of cases to the training set and internal validation set '
        'in an 8:2 ratio',
        '652 patients 125 patients',
    ],
    'Class 0 treated surgically': [
        '357 patients (72.9%)',
        '113 patients (27.1%) underwent surgery',
        'Class 0 (1-3points) 357 (64.6) 98 (24.3) 35 (29.2)',
    ],
    'Class 2 treated surgically': ['85 patients (70.4%)', '37 (6.7) 73 (18.1) 15 (12.5)'],
    'Score of class 0': [
        'Class 0 (total score < 3 points,',
        'In Class 0 (1-3 points)',
        '1-3 points 330 (46.3)',
    ],
    'The case of Figure 8': [
        '(ASTLOF score: 5)',
        'correctly reclassified as the Class 1',
        'Class 2 (5-8 points)',
    ],
    'Characteristics of patients': [
        'Baseline Characteristic of patients',
        '(n=712)',
        'Female 531 (74.6) 123 (69.1) 70 (63.1) 51 (68.0)',
        '678 female and 264 male',
    ],
    'Age and T-score': ['Mean (range)', '70.38+10.49'],
    'Kind of LASSO': [
        'least absolute shrinkage and selection operator logistic regression',
        'LASSO-Cox regression model',
        'inclusion in the LASSO-Cox analysis',
    ],
    'Macro AUC': [
        'involves computing the AUC for each individual class and then averaging these AUCs'
    ],
    'Accuracy': ['Three classification', '0.852'],
    'Accuracy of a class': ['various metrics including the Area under the Curve (AUC), accuracy'],
    'Role of the internal set': [
        'The internal validation set was employed to fine-tune the model parameters',
        'model training was exclusively conducted on the training dataset',
    ],
    'Intervals of AUC': ['(0.954-0.999)', '(0.776-0.999)', '(0.708-0.999)'],
}


@pytest.fixture(scope='module')
def text(shared):
    "The paper as one line: no hyphens at line ends, no running heads."
    pages = '\n'.join(
        p.read_text(encoding='utf-8') for p in sorted((shared / 'paper').glob('*.txt'))
    )
    pages = re.sub(r'\n*(Frontiers in Endocrinology|10\.3389/fendo\S*)\n*', '\n', pages)
    return re.sub(
        r'\s+',
        ' ',
        pages.replace('’', "'")
        .replace('RadlmageNet', 'RadImageNet')
        .replace('RadimageNet', 'RadImageNet'),
    )


def test_each_contradiction_has_its_words():
    "No contradiction without quotations, and none without its contradiction."
    assert set(QUOTES) == {c.subject for c in CONTRADICTIONS}


@pytest.mark.parametrize('subject', QUOTES)
def test_the_paper_states_it(text, subject):
    "Every quotation stands in the scanned text."
    missing = [q for q in QUOTES[subject] if q not in text]
    assert not missing, missing


def test_the_published_intervals_stand_in_the_paper(text):
    "All 32 of Table 3; the scan has lost some decimal points."
    aucs, bare = paper_values('Table 3', what='auc'), text.replace('.', '')
    for r in aucs.itertuples():
        assert f'({r.lower:.3f}-{r.upper:.3f})'.replace('.', '') in bare, r
        assert f'{r.value:.3f}'.replace('.', '') in bare, r


def test_the_published_counts_stand_in_the_paper(text):
    "Each count of Tables 1 and 2, with its percentage."
    for r in paper_values('Table 1', what='vertebrae').itertuples():
        assert re.search(rf'\b{r.value:.0f} ?\({r.percent:.1f}\)', text), r
    for r in paper_values('Table 2').itertuples():
        assert f'{r.value:.0f} ({r.percent:.1f})' in text, r
