"""The index of a run.

Every item of the paper is there, every link leads somewhere, and the browser needs nothing from
elsewhere."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pandas as pd
import pytest

from ovf_dlr.gallery import ENDINGS, ITEMS, artefacts, coverage, report_folders
from ovf_dlr.settings import read_settings


@pytest.fixture(scope='module')
def settings(smoke_run):
    "The settings of the run in the smoke cohort."
    return read_settings(smoke_run / 'settings.yml')


def test_every_item_of_the_paper_is_made(settings, smoke_run):
    "Each has its folder, and a file in it."
    covered = coverage(settings, smoke_run)
    missing = covered[(covered.folder == '') | (covered.files.map(len) == 0)]
    assert missing.empty, missing.to_string()


def test_each_item_is_made_once(settings, smoke_run):
    "Its file is in every folder where it belongs, and in no other."
    for item in ITEMS:
        for name in item.names:
            found = list(smoke_run.glob(f'*/{item.kind}/{name}{ENDINGS[item.kind]}'))
            assert sorted({p.parent.parent.name for p in found}) == sorted(
                report_folders(settings)[item.report]
            ), name
            assert '*' in name or len(found) == len(report_folders(settings)[item.report])
    indexed = pd.DataFrame([(a.folder, a.kind, a.name) for a in artefacts(settings, smoke_run)])
    assert not indexed.duplicated().any()
    on_disk = [p for kind, ending in ENDINGS.items() for p in smoke_run.glob(f'*/{kind}/*{ending}')]
    assert len(indexed) == len(on_disk), 'the index leaves something out'


class Page(HTMLParser):
    "What a page refers to, its anchors, and the tags it uses."

    def __init__(self, text):
        "Read the page."
        super().__init__()
        self.links, self.ids, self.tags, self.alt = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        "Note what the tag refers to."
        given = dict(attributes)
        self.tags.add(tag)
        self.ids += [given['id']] if 'id' in given else []
        self.links += [given[k] for k in ('href', 'src') if k in given]
        self.alt += [given.get('alt', '')] if tag == 'img' else []


def test_the_page_stands_alone(settings, smoke_run):
    "Every link leads to a file or an anchor, and every picture has a text."
    text = (smoke_run / 'index.html').read_text(encoding='utf-8')
    page = Page(text)
    assert not page.tags & {'script', 'link', 'iframe', 'object'}
    assert '@import' not in text and 'url(' not in text
    for link in page.links:
        if link.startswith('#'):
            assert unquote(link[1:]) in page.ids, link
        else:
            assert '://' not in link and (smoke_run / unquote(link)).is_file(), link
    assert len(page.ids) == len(set(page.ids))
    assert len(page.alt) == len(list(smoke_run.glob('*/figures/*.png'))) and all(page.alt)


def test_the_page_states_what_the_data_are_before_anything_else(smoke_run):
    "The facts stand before the first figure; artefacts follow in the paper's order."
    text = (smoke_run / 'index.html').read_text(encoding='utf-8')
    assert 0 < text.index('Simulated radiographs: no clinical meaning.') < text.index('<figure')
    assert (
        text.index('id="cohort-figure_1_flow-figures"')
        < text.index('id="random-table_3_performance-tables"')
        < text.index('id="random-calibration-figures"')
    )


def test_the_page_is_light(smoke_run):
    "Fifty pictures must not keep a browser waiting; the originals are one click away."
    small, originals = (
        sum(p.stat().st_size for p in smoke_run.glob(g))
        for g in ('thumbnails/*.png', '*/figures/*.png')
    )
    assert small < originals / 2
    assert (smoke_run / 'index.html').stat().st_size < 1_000_000


def test_every_link_of_the_markdown_index_leads_somewhere(smoke_run):
    "Every link of `INDEX.md` is a file."
    links = re.findall(r'\]\(([^)]+)\)', (smoke_run / 'INDEX.md').read_text(encoding='utf-8'))
    assert len(links) > 100
    for link in links:
        assert (smoke_run / unquote(link)).is_file(), link
