"Packaging of ovf_dlr: everything that may change is read from `settings.ini`."

import shlex
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here / 'settings.ini')
cfg = config['DEFAULT']

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='Apache-2.0',
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Topic :: Scientific/Engineering :: Medical Science Apps.',
        'Programming Language :: Python :: 3.11',
    ],
    keywords=cfg['keywords'],
    packages=find_packages(include=['ovf_dlr', 'ovf_dlr.*']),
    package_data={
        'ovf_dlr': [
            '*.mplstyle',
            '*.j2',
            'radiomics.yml',
            'ibsi.csv',
            'paper.csv',
            'checklists.yml',
            'reports/*.ipynb',
            'params/*.yml',
        ]
    },
    python_requires=f'>={cfg["min_python"]},<3.12',
    install_requires=shlex.split(cfg['requirements']),
    extras_require={'dev': shlex.split(cfg['dev_requirements']), 'timm': ['timm']},
    entry_points={
        'console_scripts': shlex.split(cfg['console_scripts']),
        'nbdev': [f'{cfg["lib_name"]}={cfg["lib_name"]}._modidx:d'],
    },
    zip_safe=False,
)
