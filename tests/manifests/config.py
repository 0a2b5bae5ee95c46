#!/usr/bin/env python3
"""Writes the files of a rendered gateway's ConfigMap into a folder.

    config.py RENDERED.yaml FOLDER
"""

import pathlib
import sys

import yaml

objects = [o for o in yaml.safe_load_all(open(sys.argv[1])) if o]
[config] = [o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].endswith("-policy")]
folder = pathlib.Path(sys.argv[2])
folder.mkdir(parents=True)
for name, text in config["data"].items():
    (folder / name).write_text(text)
