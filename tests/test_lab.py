"JupyterLab in a browser, as a user has it: the widget that leafs through cases is alive."
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

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright, and a Chromium")
pytestmark = pytest.mark.heavy
TOKEN = "cases"


def _answers(address):
    try:
        return urllib.request.urlopen(address, timeout=2).status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture(scope="module")
def lab(smoke_run, data, tmp_path_factory):
    "Address of a JupyterLab on a copy of the tutorial, over the results of the smoke run."
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(ROOT / "nbs" / "tutorials" / "cases.ipynb", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([Path(sys.executable).with_name("jupyter"), "lab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
                               f"--ServerApp.root_dir={folder}"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env={**{k: v for k, v in os.environ.items() if k != "MPLBACKEND"}, "OVF_DLR_DATA": str(data), "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "JUPYTER_CONFIG_DIR": str(folder / "config")})
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        if _answers(f"{address}/api?token={TOKEN}"):
            break
        assert server.poll() is None, "JupyterLab did not start"
        time.sleep(0.5)
    yield address
    server.terminate()
    server.wait(timeout=30)


@pytest.fixture
def page(lab):
    "A page of headless Chromium, on JupyterLab."
    with playwright.sync_playwright() as p:
        try:
            browser = p.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox"])
        except playwright.Error as e:
            pytest.skip(f"no Chromium can be started: {str(e).splitlines()[0]}")
        yield browser.new_page(viewport=dict(width=1500, height=1100))
        browser.close()


def test_the_case_browser_is_alive(page, lab, tmp_path):
    "Run the tutorial, choose another vertebra, then a class: the picture follows."
    page.goto(f"{lab}/lab/tree/cases.ipynb?token={TOKEN}")
    page.locator(".jp-Toolbar-kernelName:has-text('Python 3')").wait_for(timeout=120_000)  # a menu is there sooner than a kernel
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for(timeout=120_000)
    page.locator(".lm-MenuBar-itemLabel:text-is('Run')").click()
    page.locator(".lm-Menu-itemLabel:text-is('Run All Cells')").click()
    listed, picture = page.locator(".widget-select select"), page.locator(".widget-vbox .widget-output img")
    picture.wait_for(timeout=300_000)
    names, first = [n.strip() for n in listed.locator("option").all_text_contents()], picture.get_attribute("src")
    assert len(names) > 50
    listed.select_option(names[5])
    playwright.expect(picture).not_to_have_attribute("src", first, timeout=60_000)
    page.locator(".widget-dropdown select").nth(1).select_option("class 2")
    playwright.expect(listed.locator("option")).not_to_have_count(len(names), timeout=60_000)
    page.screenshot(path=tmp_path / "cases.png")
    assert not page.locator(".jp-OutputArea").filter(has_text=re.compile("Traceback")).count()
