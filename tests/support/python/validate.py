"""Validates JSON against the models of the openai package. Each line of standard input: {"type": "openai.types.chat:ChatCompletion",
"json": …}; each line of standard output: {"error": null or text, "extra": [names of fields that the model does not have]}."""

import importlib
import json
import sys

from pydantic import BaseModel, TypeAdapter

adapters: dict[str, TypeAdapter] = {}


def adapter(name: str) -> TypeAdapter:
    if name not in adapters:
        module, attribute = name.split(":")
        adapters[name] = TypeAdapter(getattr(importlib.import_module(module), attribute))
    return adapters[name]


def extras(value: object) -> set[str]:
    if isinstance(value, BaseModel):
        found = {f"{type(value).__name__}.{name}" for name in value.model_extra or {}}
        for name in value.__class__.model_fields:
            found |= extras(getattr(value, name))
        return found
    if isinstance(value, dict):
        return set().union(*map(extras, value.values()))
    if isinstance(value, list):
        return set().union(*map(extras, value))
    return set()


for line in sys.stdin:
    case = json.loads(line)
    try:
        value = adapter(case["type"]).validate_json(json.dumps(case["json"]), strict=True)
        print(json.dumps({"error": None, "extra": sorted(extras(value))}))
    except Exception as error:  # the test shows it
        print(json.dumps({"error": str(error), "extra": []}))
