"""What a cluster makes of deploy/kubernetes, without a cluster: the kustomization is applied to a Deployment, and each of
its containers is started as its manifest says, in an OCI container.

    pod = kubernetes.Pod(self, kubernetes.kustomize(folder, chart), {"image": Image})
    pod.run_init("towpath-install"); server = pod.start("coderd")
"""

import copy
import os

import yaml

from lab import oci

# The key by which Kubernetes merges a list of mappings; other lists are replaced.
_KEYS = {"volumes": "name", "initContainers": "name", "containers": "name", "env": "name", "volumeMounts": "mountPath"}


def kustomize(folder, resource):
    """(the Deployment with the patches of that folder, {name: {file: text}} of the generated ConfigMaps). `resource` is what
    the kustomization's own resource would hold."""
    with open(os.path.join(folder, "kustomization.yaml")) as file:
        kustomization = yaml.safe_load(file)
    result = copy.deepcopy(resource)
    for patch in kustomization["patches"]:
        target = patch["target"]
        assert (target["kind"], target["name"]) == (resource["kind"], resource["metadata"]["name"]), target
        with open(os.path.join(folder, patch["path"])) as file:
            result = merge(result, yaml.safe_load(file))
    assert kustomization["generatorOptions"]["disableNameSuffixHash"]  # else the volume would name another ConfigMap
    maps = {}
    for generator in kustomization["configMapGenerator"]:
        maps[generator["name"]] = {}
        for entry in generator["files"]:
            key, _, path = entry.rpartition("=")
            with open(os.path.join(folder, path)) as file:
                maps[generator["name"]][key or path] = file.read()
    return result, maps


def merge(old, new, name=""):
    """A strategic merge, as far as these manifests need one."""
    if isinstance(new, dict):
        return {**(old or {}), **{key: merge((old or {}).get(key), value, key) for key, value in new.items()}}
    if isinstance(new, list) and name in _KEYS:
        key = _KEYS[name]
        found = {one[key]: one for one in old or []}
        found.update({one[key]: merge(found.get(one[key]), one) for one in new})
        return list(found.values())
    return new


class Pod:
    """`images`: {the image's name in the manifest: dockerfile.Image}. Volumes are directories of the test."""

    def __init__(self, case, manifests, images):
        deployment, self._maps = manifests
        self._case, self._images = case, images
        self.spec = deployment["spec"]["template"]["spec"]
        self._volumes = {}
        for volume in self.spec["volumes"]:
            self._volumes[volume["name"]] = place = os.path.join(case.directory, "volume-" + volume["name"])
            os.mkdir(place)
            os.chmod(place, 0o777)  # as the kubelet makes an emptyDir
            if "configMap" in volume:
                self._write_map(place, self._maps[volume["configMap"]["name"]])

    def container(self, name):
        return next(one for one in self.spec.get("initContainers", []) + self.spec["containers"] if one["name"] == name)

    def run_init(self, name):
        return oci.run(self._case, *self._how(name)[0], **self._how(name)[1])

    def start(self, name):
        words, how = self._how(name)
        return oci.start(self._case, *words, **how)

    def run(self, name, command, **more):
        """Another command in a container like that one."""
        (root, _), how = self._how(name)
        return oci.run(self._case, root, command, **{**how, **more})

    def _how(self, name):
        container = self.container(name)
        image, security = self._images[container["image"]], container.get("securityContext", {})
        uid = security.get("runAsUser", image.user)
        assert not security.get("runAsNonRoot") or uid != 0, f"{name}: Kubernetes would not start root"
        assert security["capabilities"]["drop"] == ["ALL"]
        # command replaces an image's entrypoint, and its CMD too; args replace CMD.
        words = container.get("command", image.entrypoint) + container.get("args", [] if "command" in container else image.cmd)
        env = {one["name"]: one.get("value", "") for one in container.get("env", [])}
        return (image.root, words), {
            "env": {**image.env, **env}, "uid": uid, "capabilities": (), "name": name,
            "readonly": security.get("readOnlyRootFilesystem", False),
            "no_new_privs": not security.get("allowPrivilegeEscalation", True),
            "confined": security.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "mounts": [(self._volumes[one["name"]], one["mountPath"], one.get("readOnly", False))
                       for one in container.get("volumeMounts", [])]}

    @staticmethod
    def _write_map(place, files):
        """As the kubelet: the files are links through ..data, which is exchanged as one."""
        version = os.path.join(place, "..first")
        os.mkdir(version, 0o755)
        os.symlink("..first", os.path.join(place, "..data"))
        for name, text in files.items():
            with open(os.path.join(version, name), "w") as file:
                file.write(text)
            os.symlink(os.path.join("..data", name), os.path.join(place, name))
