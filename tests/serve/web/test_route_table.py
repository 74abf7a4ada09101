"""From paths to templates."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from pennyweight.serve.web.route_table import OTHER, RouteTable


@pytest.mark.parametrize(
    ("path", "template", "posts", "computes"),
    [
        ("/predict", "/predict", True, True),
        ("/v1/predict", "/v1/predict", True, True),
        ("/v1/classifiers", "/v1/classifiers", False, False),
        ("/v1/classifiers/news", "/v1/classifiers/{name}", False, False),
        ("/v1/classifiers/\u00e4 b/predict", "/v1/classifiers/{name}/predict", True, True),
        ("/v1/classifiers/news/explain", "/v1/classifiers/{name}/explain", True, True),
        ("/v1/classifiers/news/reload", "/v1/classifiers/{name}/reload", True, False),
        ("/livez", "/livez", False, False),
        ("/", "/", False, False),
        ("/v1/classifiers/a/b/predict", OTHER, False, False),
        ("/v1/classifiers/", OTHER, False, False),
        ("/predict/", OTHER, False, False),
        ("", OTHER, False, False),
    ],
)
def test_paths_fit_templates(client: TestClient, path: str, template: str, posts: bool, computes: bool) -> None:
    table = RouteTable(client.app.routes)  # type: ignore[attr-defined]
    assert table.template(path) == template
    assert (table.posts(template), table.computes(template)) == (posts, computes)
