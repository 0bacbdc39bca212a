"""The state of the house, for `make house`: rooms and their imports, lines, functions, parameters.

Bodies of functions are counted after `ruff format --line-length 88`, without their docstrings, so
that a short function with long lines does not count as short. Fails where a limit of CONTRIBUTING
is broken.
"""

import ast
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = dict(lines=800, parameters=8, median=6, p90=16, longest=50)
COLUMNS = 100


def rooms() -> list[str]:
    "The modules in the order of their notebooks."
    return [p.stem[3:] for p in sorted((ROOT / 'nbs').glob('[0-9][0-9]_*.ipynb'))]


def imports_of(tree: ast.Module) -> set[str]:
    "The rooms that a module imports from."
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    own = [n for n in nodes if n.level == 1 or n.module.startswith('ovf_dlr.')]
    return {n.module.removeprefix('ovf_dlr.') for n in own}


def formatted(folder: Path) -> dict[str, ast.Module]:
    "Every room, formatted at 88 columns in `folder`."
    for room in rooms():
        (folder / f'{room}.py').write_text((ROOT / 'ovf_dlr' / f'{room}.py').read_text())
    ruff = Path(sys.executable).with_name('ruff')
    options = ['--quiet', '--isolated', '--line-length', '88']
    subprocess.run([ruff, 'format', *options, folder], check=True)
    return {room: ast.parse((folder / f'{room}.py').read_text()) for room in rooms()}


def body_lines(function: ast.FunctionDef) -> int:
    "Lines of a function's body without its docstring."
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def n_parameters(function: ast.FunctionDef) -> int:
    "Parameters of a function; a command of the command line has one for each option."
    if any('command' in ast.unparse(d) for d in function.decorator_list):
        return 0
    a = function.args
    return len([x for x in a.posonlyargs + a.args + a.kwonlyargs if x.arg not in ('self', 'cls')])


def functions(trees: dict) -> list[tuple]:
    "(room, name, lines of its body, parameters, has a docstring) of every function."
    return [
        (room, n.name, body_lines(n), n_parameters(n), ast.get_docstring(n) is not None)
        for room, tree in trees.items()
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef)
    ]


def long_lines() -> list[str]:
    "Lines of code over the limit in notebooks, tests, benchmarks and scripts."
    done = subprocess.run(
        [Path(sys.executable).with_name('ruff'), 'check', '--select', 'E501', '--exit-zero']
        + ['--output-format', 'concise', ROOT],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if 'E501' in line and 'ovf_dlr/' not in line]


def drawing(trees: dict) -> str:
    "Every room with the rooms it imports from, by number, and its lines."
    number = {room: f'{k:02d}' for k, room in enumerate(rooms())}
    rows = []
    for room, tree in trees.items():
        lines = len((ROOT / 'ovf_dlr' / f'{room}.py').read_text().splitlines())
        below = ' '.join(sorted(number[r] for r in imports_of(tree)))
        rows.append(f'{number[room]}  {room:20} {lines:4}  {below}')
    return '\n'.join(['no  room                lines  imports from', *rows])


def upward(trees: dict) -> list[str]:
    "Imports from a room of the same or a higher number."
    order = rooms()
    return [
        f'{room} imports {other}'
        for room, tree in trees.items()
        for other in imports_of(tree)
        if order.index(other) >= order.index(room)
    ]


def measure() -> tuple[str, list[str]]:
    "The figures as text, and what breaks a limit."
    with tempfile.TemporaryDirectory() as folder:
        trees = formatted(Path(folder))
    found = functions(trees)
    bodies = sorted(lines for _, _, lines, _, _ in found)
    figures = dict(
        median=statistics.median(bodies), p90=bodies[int(0.9 * len(bodies))], longest=bodies[-1]
    )
    sizes = {r: len((ROOT / 'ovf_dlr' / f'{r}.py').read_text().splitlines()) for r in trees}
    largest, wide = max(sizes, key=sizes.get), long_lines()
    crowded = [f'{r}.{n} ({k})' for r, n, _, k, _ in found if k > LIMITS['parameters']]
    silent = [f'{r}.{n}' for r, n, _, _, d in found if not d and not re.match('__', n)]
    text = (
        f'{drawing(trees)}\n\n'
        f'rooms {len(trees)}, lines {sum(sizes.values()):,}, largest {largest} {sizes[largest]}\n'
        f'functions {len(found):,}; lines of a body: median {figures["median"]:g}, '
        f'90th percentile {figures["p90"]}, longest {figures["longest"]}\n'
        f'functions with more than {LIMITS["parameters"]} parameters: {len(crowded)}; '
        f'without a docstring: {len(silent)}; lines over {COLUMNS} columns: {len(wide)}'
    )
    broken = [f'{k} {v:g} > {LIMITS[k]}' for k, v in figures.items() if v > LIMITS[k]]
    broken += [f'{r}: {n} lines' for r, n in sizes.items() if n > LIMITS['lines']]
    broken += [f'parameters: {name}' for name in crowded]
    broken += [f'no docstring: {name}' for name in silent]
    return text, broken + upward(trees) + wide


def rooms_table() -> str:
    "Every room with the sentence of its notebook and the rooms it imports from, as Markdown."
    number = {room: f'{k:02d}' for k, room in enumerate(rooms())}
    rows = ['| no | room | what it holds | imports from |', '|---|---|---|---|']
    for room in number:
        tree = ast.parse((ROOT / 'ovf_dlr' / f'{room}.py').read_text())
        below = ' '.join(sorted(number[r] for r in imports_of(tree)))
        rows.append(f'| {number[room]} | `{room}` | {ast.get_docstring(tree)} | {below} |')
    return '\n'.join(rows)


MARKS = (
    '<!-- rooms: written by `python .ci/house.py --write`, do not edit -->',
    '<!-- end of rooms -->',
)


def contributing() -> str:
    "CONTRIBUTING.md with the table of rooms as it is now."
    before, _, rest = (ROOT / 'CONTRIBUTING.md').read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    return f'{before}{MARKS[0]}\n\n{rooms_table()}\n\n{MARKS[1]}{after}'


if __name__ == '__main__':
    if '--write' in sys.argv:
        (ROOT / 'CONTRIBUTING.md').write_text(contributing())
    text, broken = measure()
    if contributing() != (ROOT / 'CONTRIBUTING.md').read_text():
        broken.append('the rooms in CONTRIBUTING.md are old: run `python .ci/house.py --write`')
    print(text)
    if broken:
        sys.exit('\n'.join(['', 'Not as CONTRIBUTING asks:', *broken]))
