"""The part of Dockerfiles that deploy/docker uses, carried out without Docker: ARG, FROM, COPY, ENV, USER, ENTRYPOINT, CMD.

    image = dockerfile.build(path, "carried", context, {"scratch": root}, directory, {"PROGRAM": "scratch"})
    image.words()            # what a container of it starts
"""

import dataclasses
import json
import os
import shutil

from lab import root_fs


@dataclasses.dataclass
class Image:
    root: root_fs.RootFs
    env: dict = dataclasses.field(default_factory=dict)
    user: int = 0
    entrypoint: list = dataclasses.field(default_factory=list)
    cmd: list = dataclasses.field(default_factory=list)

    def words(self, *command):
        return [*self.entrypoint, *(command or self.cmd)]


def build(path, target, context, bases, directory, arguments=None):
    """`bases`: {name of an image: an Image}; scratch is known. Stages before `target` are built too."""
    stages, values, image = {}, {}, None
    for keyword, rest in _instructions(path):
        for name, value in values.items():
            rest = rest.replace("${%s}" % name, value)
        if keyword == "ARG":
            name, _, default = rest.partition("=")
            values[name] = (arguments or {}).get(name, default)
        elif keyword == "FROM":
            base, _, stage = rest.partition(" AS ")
            image = _from(stages.get(base) or bases.get(base), base, os.path.join(directory, stage))
            stages[stage] = image
        elif keyword == "COPY":
            _copy(image, rest.split(), context, stages)
        elif keyword == "ENV":
            name, _, value = rest.partition("=")
            image.env[name] = value
        elif keyword == "USER":
            image.user = int(rest.partition(":")[0])
        elif keyword == "ENTRYPOINT":
            image.entrypoint, image.cmd = json.loads(rest), []  # as Docker does, a base's CMD is forgotten
        elif keyword == "CMD":
            image.cmd = json.loads(rest)
        else:
            raise AssertionError(f"{path}: {keyword} is not known here")
    return stages[target]


def _instructions(path):
    with open(path) as file:
        text = file.read().replace("\\\n", " ")
    return [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _from(base, name, place):
    if base is None:
        assert name == "scratch", f"no image {name}"
        return Image(root_fs.empty(place))
    return dataclasses.replace(base, root=base.root.copy(place), env=dict(base.env))


def _copy(image, words, context, stages):
    source = context
    if words[0].startswith("--from="):
        source = stages[words.pop(0)[len("--from="):]].root.path
    *files, target = words
    assert target.endswith("/"), "one file to another name is not known here"
    for file in files:
        place = image.root.place(target + os.path.basename(file))
        shutil.copy(os.path.join(source, file.lstrip("/")), place)  # with its mode, as Docker
