"""The site without Quarto: pages, links, anchors, citations and cross-references hold, and nothing
is fetched from elsewhere."""

import importlib.util
import re
from functools import cache

import nbformat
import pytest
import yaml
from conftest import ROOT

from ovf_dlr.checklists import checklists

NBS = ROOT / 'nbs'
NOTEBOOKS = sorted(
    p
    for p in NBS.rglob('*.ipynb')
    if not any(part.startswith(('.', '_')) for part in p.relative_to(NBS).parts)
)
PAGES = [*NOTEBOOKS, ROOT / 'README.md', ROOT / 'CHANGELOG.md']
SITE = yaml.safe_load((ROOT / '_quarto.yml').read_text())
HOME = SITE['website']['site-url']
CROSSREFS = ('fig', 'tbl', 'eq', 'sec')


def _hrefs(entry):
    "Every page that a sidebar or navbar entry leads to."
    if isinstance(entry, str):
        return [entry]
    if isinstance(entry, list):
        return [href for e in entry for href in _hrefs(e)]
    return ([entry['href']] if 'href' in entry else []) + _hrefs(entry.get('contents', []))


@cache
def _text(path) -> str:
    "What an author wrote for readers: the Markdown of a page, without its code."
    if path.suffix == '.md':
        text = path.read_text()
    else:
        text = '\n\n'.join(
            c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == 'markdown'
        )
    return re.sub(
        r'(`+)(?!`).+?(?<!`)\1(?!`)',
        '',
        re.sub(r'^```.*?^```', '', text, flags=re.S | re.M),
        flags=re.S,
    )


def _slug(heading) -> str:
    "The id that pandoc gives a heading."
    plain = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).lower()
    return re.sub(r'^[^a-z]+', '', re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', plain).strip()))


@cache
def _ids(path) -> set:
    "Anchors of a page: its headings, what has an explicit id, and labelled code cells."
    headings = (
        [
            re.sub(r'\{.*\}\s*$', '', h)
            for c in nbformat.read(path, as_version=4).cells
            if c.cell_type == 'markdown'
            for h in re.findall(
                r'^#+ +(.+)$', re.sub(r'^```.*?^```', '', c.source, flags=re.S | re.M), re.M
            )
        ]
        if path.suffix == '.ipynb'
        else re.findall(r'^#+ +(.+)$', path.read_text(), re.M)
    )
    labels = (
        re.findall(
            r'^#\| *label: *([\w-]+)',
            '\n'.join(
                c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == 'code'
            ),
            re.M,
        )
        if path.suffix == '.ipynb'
        else []
    )
    return (
        {_slug(h.replace('`', '')) for h in headings}
        | set(re.findall(r'\{[^}]*#([\w-]+)', _text(path)))
        | set(labels)
    )


def _links(path):
    "Targets of the links and images of a page."
    return [
        t
        for t in re.findall(r'\]\(\s*<?([^)\s>]+)', _text(path))
        + re.findall(r"""(?:href|src)=["']([^"']+)""", _text(path))
        if not t.startswith('attachment:')
    ]


def _output(path) -> str:
    "The page that a notebook becomes: nbdev drops the number."
    return str(path.relative_to(NBS).with_name(re.sub(r'^\d+_', '', path.stem) + '.html'))


def _broken(path, target):
    "Why a link leads nowhere, or None."
    if target.startswith(HOME):
        page = target.removeprefix(HOME).strip('/').partition('#')[0] or 'index.html'
        return None if page in {_output(p) for p in NOTEBOOKS} else 'no page of this site'
    if re.match(r'[a-z]+:', target):
        return None
    name, _, anchor = target.partition('#')
    place = (path.parent / name).resolve() if name else path
    if not place.is_file():
        return 'no such file'
    if anchor and place.suffix in ('.ipynb', '.md') and anchor not in _ids(place):
        return f'no heading #{anchor}'


def test_every_page_of_the_menus_exists_and_every_notebook_is_in_the_sidebar():
    sidebar = [NBS / h for h in _hrefs(SITE['website']['sidebar']['contents'])]
    navbar = [NBS / h for h in _hrefs(SITE['website']['navbar']['left'])]
    assert not [p for p in sidebar + navbar if not p.is_file()]
    assert sorted(sidebar) == NOTEBOOKS, set(sidebar) ^ set(NOTEBOOKS)


def test_no_two_notebooks_become_one_page():
    pages = [_output(p) for p in NOTEBOOKS]
    assert len(set(pages)) == len(pages), sorted(p for p in pages if pages.count(p) > 1)


def test_links_and_anchors_lead_somewhere():
    broken = [
        f'{p.relative_to(ROOT)}: {t}: {why}'
        for p in PAGES
        for t in _links(p)
        if (why := _broken(p, t))
    ]
    assert not broken, '\n'.join(broken)
    assert sum(len(_links(p)) for p in PAGES) > 50  # the pattern still finds links


@pytest.mark.parametrize(
    'target, why',
    [
        ('22_audit.ipynb', None),
        ('audit.ipynb', 'no such file'),
        ('34_transfer.ipynb#fine-tuning', None),
        ('34_transfer.ipynb#fine-tunning', 'no heading'),
        (f'{HOME}/tutorials/messages.html', None),
        (f'{HOME}/07_audit.html', 'no page'),
        ('https://example.org', None),
    ],
)
def test_a_broken_link_is_told_from_a_good_one(target, why):
    found = _broken(NBS / '56_study.ipynb', target)
    assert found is None if why is None else why in found


def _keys(path):
    "Keys cited on a page, cross-references among them."
    return {
        k.rstrip('.')
        for k in re.findall(r'(?:(?<=[\s\[(;-])|^)@([A-Za-z][\w:.-]*\w)', _text(path), re.M)
    }


def _bibliography() -> dict:
    "Entry -> its text."
    return dict(re.findall(r'^@\w+\{(\w+),(.*)\}$', (NBS / SITE['bibliography']).read_text(), re.M))


def test_every_citation_is_in_the_bibliography_and_every_entry_is_cited():
    entries = _bibliography()
    text = (NBS / SITE['bibliography']).read_text()
    assert len(entries) == len(re.findall(r'^@', text, re.M)) > 20, (
        'an entry is double, or does not stand on one line'
    )
    for key, fields in entries.items():
        assert all(f'{f} = {{' in fields for f in ('title', 'author', 'year')) and fields.count(
            '{'
        ) == fields.count('}'), key
    cited = {k for p in NOTEBOOKS for k in _keys(p) if k.split('-')[0] not in CROSSREFS}
    assert cited <= set(entries), cited - set(entries)
    assert set(entries) <= cited, set(entries) - cited
    assert {c['cite'] for c in checklists().values()} <= set(entries)


def test_every_cross_reference_has_its_target_on_its_page():
    for path in NOTEBOOKS:
        wanted = {k for k in _keys(path) if k.split('-')[0] in CROSSREFS}
        assert wanted <= _ids(path), f'{path.name}: {wanted - _ids(path)}'
    assert {'fig-pipeline', 'tbl-protocols', 'eq-icc'} <= _keys(NBS / 'methods.ipynb')


def test_the_site_fetches_nothing():
    html = SITE['format']['html']
    assert html['html-math-method'] == 'mathml'
    for theme in html['theme'].values():
        assert theme[-1] == 'site.scss', 'a theme without site.scss fetches its font from the web'
    for path in [*NBS.rglob('*.scss'), *NBS.rglob('*.css'), ROOT / '_quarto.yml']:
        assert not re.search(r'@import|url\(|<script|<link', path.read_text()), path
    assert re.search(r'^\$web-font-path: *false;', (NBS / 'site.scss').read_text(), re.M)
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get('outputs', []):
                shown = ''.join(output.get('data', {}).get('text/html', ''))
                assert not re.search(
                    r"""<(?:script|link|img)\b[^>]*(?:src|href)=["']?(?:https?:)?//""", shown
                ), path.name


def test_the_menus_search_and_the_dark_mode_are_on():
    assert SITE['website']['search'] is True and set(SITE['format']['html']['theme']) == {
        'light',
        'dark',
    }
    assert (NBS / '_quarto.yml').resolve() == ROOT / '_quarto.yml'
    assert f'doc_path = {SITE["project"]["output-dir"]}\n' in (ROOT / 'settings.ini').read_text(), (
        'nbdev would not find what Quarto made'
    )


@pytest.fixture(scope='module')
def build():
    "`.ci/build_site.py`, which `make site` runs."
    spec = importlib.util.spec_from_file_location('build_site', ROOT / '.ci' / 'build_site.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_scripts_from_elsewhere_leave_the_pages_and_what_else_is_fetched_is_named(build, tmp_path):
    own = '<script src="../site_libs/quarto.js"></script><a href="https://example.org/x.png">x</a>'
    (tmp_path / 'tutorials').mkdir()
    page = tmp_path / 'tutorials' / 'a.html'
    page.write_text(
        '<head><script src="https://cdn.example.org/require.min.js" integrity="x" '
        f'crossorigin="anonymous"></script>\n{own}'
        """<script type="application/javascript">define('jquery', [],function() """
        """{return window.jQuery;})</script></head>"""
    )
    assert build.offline(tmp_path) == []
    assert page.read_text() == f'<head>{own}</head>'
    (tmp_path / 'b.css').write_text("@import url('https://fonts.example.org/css?family=Lato');")
    page.write_text('<img src="https://example.org/a.png">')
    assert build.offline(tmp_path) == [
        'tutorials/a.html: https://example.org/a.png',
        'b.css: https://fonts.example.org/css?family=Lato',
    ]


def test_nbdev_documents_a_notebook_whose_demonstrations_import_on_the_way(build):
    from nbdev.process import NBProcessor

    made = NBProcessor(NBS / '05_cohort.ipynb', procs=build.processors.FilterDefaults().procs())
    made.process()
    shown = {
        m
        for c in made.nb.cells
        if c.cell_type == 'code'
        for m in re.findall(r'^show_doc\((\w+)', c.source, re.M)
        if c.get('outputs')
    }
    assert {'read_cohort', 'second_view', 'Cohort'} <= shown
    assert 'LNone' not in str(made.nb), 'a link to the source leads to no line'
