"""Validates objects of Kubernetes and of KubeRay; a field that does not exist is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

KUBERNETES = "1.37"
RAY_KINDS = ("RayCluster", "RayJob")
CRD = Path(__file__).with_name("kuberay_crd.yaml")
# The key in `kuberay_crd.yaml` that stands for a type of Kubernetes.
TYPE_KEY = "x-kubernetes"


def object_errors(content: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with one object, each with the path to its place.

    Kubernetes' own types are those of kubernetes-validate, in its strict form.
    """
    kind, version = content["kind"], content["apiVersion"]
    errors = _validator(kind, version).iter_errors(content)
    return [f"{error.json_path}: {error.message}" for error in errors]


@cache
def _validator(kind: str, version: str) -> Draft202012Validator:
    definitions = _schema("_definitions")
    registry = Resource.from_contents(definitions) @ Registry()
    if kind in RAY_KINDS:
        schema = _with_references(yaml.safe_load(CRD.read_text()), definitions["$id"])
        return Draft202012Validator({**schema, "$ref": f"#/$defs/{kind}"}, registry=registry)
    # `networking.k8s.io/v1` is `networking-v1` in the names of the files.
    group, _, number = version.rpartition("/")
    suffix = "-".join([part for part in (group.split(".")[0], number) if part])
    return Draft202012Validator(_schema(f"{kind.lower()}-{suffix}"), registry=registry)


@cache
def _schema(name: str) -> dict[str, Any]:
    folder = (
        files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
    )
    schema: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return schema


def _with_references(schema: Any, kubernetes: str) -> Any:
    """Replace every `x-kubernetes: NAME` by a reference to that type.

    Args:
        schema: Any part of the schema.
        kubernetes: The address of the schema of Kubernetes' types.
    """
    if isinstance(schema, list):
        return [_with_references(part, kubernetes) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if TYPE_KEY in schema:
        return {"$ref": f"{kubernetes}#/$defs/{schema[TYPE_KEY]}"}
    return {key: _with_references(part, kubernetes) for key, part in schema.items()}
