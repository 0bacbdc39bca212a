"""Build the site, for `make site`: nbdev prepares the notebooks, Quarto renders them.

Scripts that would be fetched from elsewhere are taken out.

To document a notebook, nbdev runs its exported cells and every cell that holds an import. A
demonstration that imports something on the way needs cells that are not run, and fails; so does a
signature that names a class of a later cell. Here only exported cells, signatures and cells of
nothing but imports are run, in a namespace that holds the notebook's module from the start.
"""

import ast
import re
import sys
import warnings
from pathlib import Path

import nbdev.processors as processors

_would_run = processors._do_eval


def runs(cell) -> bool:
    "Whether a cell is run while the documentation is made."
    with warnings.catch_warnings(action='ignore'):  # of the very cells that are passed over below
        if not _would_run(cell):
            return False
    exported = cell.directives_.keys() & {'export', 'exports', 'exporti'}
    return (
        bool(exported)
        or all(isinstance(t, (ast.Import, ast.ImportFrom)) for t in cell.parsed_())
        or bool(processors._show_docs(cell.parsed_()))
    )


class show_docs(processors.exec_show_docs):
    "nbdev's processor, in a namespace that holds all of the notebook's module."

    def begin(self):
        super().begin()
        module = next(
            (
                cell.directives_['default_exp'][0]
                for cell in self.nb.cells
                if 'default_exp' in (cell.directives_ or {})
            ),
            None,
        )
        if module and hasattr(self, 'k'):
            self.k.run_cell(
                f'import ovf_dlr.{module} as _module\nglobals().update({{k: v for k, v in '
                "vars(_module).items() if not k.startswith('__')}})"
            )


show_docs.__name__ = 'exec_show_docs'
processors._do_eval, processors.exec_show_docs = runs, show_docs

# Quarto adds require.js and jquery from a CDN to every page that shows a table; nothing here uses
# them.
_FOREIGN = re.compile(
    r"""<script\b[^>]*\bsrc=["']https?://[^>]*>\s*</script>\s*|<script\b[^>]*>\s*define\('jquery'.*?</script>\s*""",
    re.S,
)
_FETCHED = re.compile(
    r"""<(?:script|link|img)\b[^>]*\b(?:src|href)=["'](https?://[^"']+\.(?:js|css|woff2?|ttf|png|svg))["']|@import\s+(?:url\()?["']?(https?://[^"')]+)"""
)


def offline(folder: Path) -> list[str]:
    "Take foreign scripts out of every page under `folder`; what is still fetched from elsewhere."
    left = []
    for path in [*folder.rglob('*.html'), *folder.rglob('*.css')]:
        text = path.read_text(encoding='utf-8')
        if path.suffix == '.html':
            path.write_text(text := _FOREIGN.sub('', text), encoding='utf-8')
        left += [f'{path.relative_to(folder)}: {a or b}' for a, b in _FETCHED.findall(text)]
    return left


if __name__ == '__main__':
    from nbdev.config import get_config
    from nbdev.quarto import nbdev_docs

    nbdev_docs(n_workers=0)  # in this process, in which nbdev was changed
    if left := offline(get_config().doc_path):
        sys.exit('the site would not work offline:\n' + '\n'.join(left))
