"""JupyterLab in a browser, as a user has it: every notebook runs from top to bottom, and the
widgets are alive."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT

playwright = pytest.importorskip(
    'playwright.sync_api',
    reason='playwright is not installed: pip install playwright, and a Chromium',
)
pytestmark = pytest.mark.heavy
TOKEN = 'cases'
NOTEBOOKS = sorted(
    p.relative_to(ROOT / 'nbs').as_posix()
    for p in (ROOT / 'nbs').rglob('*.ipynb')
    if '.ipynb_checkpoints' not in p.parts
)


def _asked(address, path, method='GET'):
    "What the server answers; None while there is none."
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f'{address}/{path}?token={TOKEN}', method=method), timeout=5
        ) as answer:
            return answer.read() or b'true'
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    "A copy of the checkout, since library notebooks end by exporting into the one they lie in."
    folder = tmp_path_factory.mktemp('lab') / 'checkout'
    shutil.copytree(
        ROOT,
        folder,
        symlinks=True,
        ignore=shutil.ignore_patterns(
            '.venv', '.git', 'cohorts', 'cache', 'results', '__pycache__', '_docs', '_proc'
        ),
    )
    return folder


@pytest.fixture(scope='module')
def lab(checkout, smoke_run, data):
    "Address of a JupyterLab on the copy, over the results of the smoke run."
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            Path(sys.executable).with_name('jupyter'),
            'lab',
            '--no-browser',
            '--allow-root',
            f'--port={port}',
            '--ServerApp.port_retries=0',
            f'--IdentityProvider.token={TOKEN}',
            f'--ServerApp.root_dir={checkout / "nbs"}',
        ],
        cwd=checkout / 'nbs',
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **{k: v for k, v in os.environ.items() if k != 'MPLBACKEND'},
            'OVF_DLR_DATA': str(data),
            'OVF_DLR_SHARED': os.environ.get('OVF_DLR_SHARED', str(ROOT.parent / 'shared')),
            'IN_TEST': '1',
            'PYTHONPATH': os.pathsep.join([str(checkout), os.environ.get('PYTHONPATH', '')]),
            'JUPYTER_CONFIG_DIR': str(checkout / 'config'),
        },
    )
    address = f'http://127.0.0.1:{port}'
    for _ in range(120):
        if _asked(address, 'api'):
            break
        assert server.poll() is None, 'JupyterLab did not start'
        time.sleep(0.5)
    yield address
    server.terminate()
    server.wait(timeout=30)


@pytest.fixture
def page(lab):
    "A page of headless Chromium, on JupyterLab; the kernels it started are gone afterwards."
    with playwright.sync_playwright() as p:
        try:
            browser = p.chromium.launch(
                executable_path=shutil.which('chromium') or shutil.which('google-chrome'),
                args=['--no-sandbox'],
            )
        except playwright.Error as e:
            pytest.skip(f'no Chromium can be started: {str(e).splitlines()[0]}')
        yield browser.new_page(viewport=dict(width=1500, height=1100))
        browser.close()
    for kernel in json.loads(_asked(lab, 'api/kernels') or b'[]'):
        _asked(lab, f'api/kernels/{kernel["id"]}', 'DELETE')


def run_all(page, lab, name):
    "Open a notebook and choose Run > Run All Cells."
    page.goto(f'{lab}/lab/tree/{name}?token={TOKEN}&reset')  # no tab of an earlier visit
    page.locator(".jp-Toolbar-kernelName:has-text('Python 3')").wait_for(
        timeout=120_000
    )  # a menu is there sooner than a kernel
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for(timeout=120_000)
    page.locator(".lm-MenuBar-itemLabel:text-is('Run')").click()
    page.locator(".lm-Menu-itemLabel:text-is('Run All Cells')").click()


def wait_for_the_end(page, lab, seconds):
    "Until the kernel has been idle for a while: between two cells it is idle too."
    quiet, until = 0, time.time() + seconds
    while quiet < 3:
        assert time.time() < until, 'the notebook is still running'
        page.wait_for_timeout(1000)
        quiet = (
            quiet + 1
            if all(
                k['execution_state'] == 'idle'
                for k in json.loads(_asked(lab, 'api/kernels') or b'[{"execution_state": ""}]')
            )
            else 0
        )


def saved(page, file):
    "The code cells, after File > Save Notebook."
    page.locator(".lm-MenuBar-itemLabel:text-is('File')").click()
    page.locator(".lm-Menu-itemLabel:text-is('Save Notebook')").click()
    page.wait_for_timeout(2000)
    return [c for c in json.loads(file.read_text())['cells'] if c['cell_type'] == 'code']


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_every_notebook_runs_when_opened(page, lab, checkout, name):
    """All cells are run and none fails; what was run is read from the saved file, since a long
    notebook is in the page only where one looks."""
    file = checkout / 'nbs' / name
    before = json.loads(file.read_text())
    for cell in before['cells']:  # so that outputs and numbers found afterwards are new
        if cell['cell_type'] == 'code':
            cell.update(outputs=[], execution_count=None)
    file.write_text(json.dumps(before))
    run_all(page, lab, name)
    for _ in range(
        5
    ):  # on a busy machine the kernel may be idle for a while before its first cell, or between two
        wait_for_the_end(page, lab, 3600)
        cells = saved(page, file)
        failed = [o for c in cells for o in c['outputs'] if o['output_type'] == 'error']
        assert not failed, failed[0]['ename'] + ': ' + failed[0]['evalue']
        if all(c['execution_count'] for c in cells if ''.join(c['source']).strip()):
            return
    raise AssertionError('some cells were not run')


def test_the_case_browser_is_alive(page, lab, tmp_path):
    "Run the tutorial, choose another vertebra, then a class: the picture follows."
    run_all(page, lab, 'tutorials/cases.ipynb')
    listed, picture = (
        page.locator('.widget-select select'),
        page.locator('.widget-vbox .widget-output img'),
    )
    picture.wait_for(timeout=300_000)
    names, first = (
        [n.strip() for n in listed.locator('option').all_text_contents()],
        picture.get_attribute('src'),
    )
    assert len(names) > 50
    listed.select_option(names[5])
    playwright.expect(picture).not_to_have_attribute('src', first, timeout=60_000)
    page.locator('.widget-dropdown select').nth(1).select_option('class 2')
    playwright.expect(listed.locator('option')).not_to_have_count(len(names), timeout=60_000)
    page.screenshot(path=tmp_path / 'cases.png')
    assert not page.locator('.jp-OutputArea').filter(has_text=re.compile('Traceback')).count()


FORM = "from ovf_dlr.form import SettingsForm\nSettingsForm('smoke')"


def test_the_form_is_alive(page, lab, checkout, tmp_path):
    "Choose a protocol, type what cannot be meant, mend it, write the file."
    cell = dict(
        cell_type='code', id='form', metadata={}, outputs=[], execution_count=None, source=FORM
    )
    kernel = dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'))
    (checkout / 'nbs' / 'ask.ipynb').write_text(
        json.dumps(dict(cells=[cell], metadata=kernel, nbformat=4, nbformat_minor=5))
    )
    run_all(page, lab, 'ask.ipynb')
    preview, write = page.locator('.widget-html pre'), page.locator("button:has-text('Write')")
    preview.wait_for(timeout=120_000)
    assert 'protocol: paper' not in preview.text_content()
    page.get_by_text('The protocol', exact=True).click()
    page.locator(".widget-dropdown:has-text('protocol') select").select_option('paper')
    playwright.expect(preview).to_contain_text('protocol: paper', timeout=30_000)
    seed = page.locator(".widget-text:has-text('seed') input")
    seed.fill('many')
    seed.press('Enter')
    playwright.expect(page.locator(".widget-html:has-text('Not yet')")).to_contain_text(
        'a whole number', timeout=30_000
    )
    assert write.is_disabled()
    seed.fill('7')
    seed.press('Enter')
    playwright.expect(preview).to_contain_text('seed: 7', timeout=30_000)
    page.screenshot(path=tmp_path / 'form.png')
    write.click()
    playwright.expect(page.locator(".widget-html:has-text('written')")).to_be_visible(
        timeout=30_000
    )
    assert 'protocol: paper' in (checkout / 'nbs' / 'my_study.yml').read_text()
