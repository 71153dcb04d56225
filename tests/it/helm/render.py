"""Lints a chart as `helm lint --strict` does, and renders it with each of the values that standard input has, by Helm's own library.

Writes `{"lint": [MESSAGE…], "rendered": [{"objects": [OBJECT…], "error": TEXT or null, "invalid": [MESSAGE…]}…]}`. Objects of Kubernetes
are validated, strictly, by the schemas that it publishes; those of others are not.
"""

import json
import sys

import helm_python
import kubernetes_validate
import yaml

CHART, KUBERNETES = sys.argv[1], "1.34"


def rendered(chart, values):
    try:
        texts = chart.render(values, name="edge", namespace="shop")
    except helm_python.HelmError as error:
        return {"objects": [], "error": str(error), "invalid": []}
    texts = [text for name, text in sorted(texts.items()) if not name.endswith(".txt")]
    objects = [one for text in texts for one in yaml.safe_load_all(text) if one]
    invalid = []
    for one in objects:
        if one["apiVersion"].startswith("monitoring.coreos.com/"):
            continue
        try:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            invalid.append(f"{one['kind']}: {error}")
    return {"objects": objects, "error": None, "invalid": invalid}


lint = helm_python.lint(CHART, strict=True)
with helm_python.Chart.load(CHART) as chart:
    answers = [rendered(chart, values) for values in json.load(sys.stdin)]
messages = [str(message) for message in lint["messages"] if message["severity"] > 1] + lint["errors"]
json.dump({"lint": messages, "rendered": answers}, sys.stdout)
