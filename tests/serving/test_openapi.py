"""What the server says of its API holds, whatever is sent within and beyond it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.generation import GenerationMode  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_as_described(server, mode):
    described = schemathesis.openapi.from_dict(server.client.get("/openapi.json").json())
    tried = set()
    for found in described.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=15, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        def holds(case):
            tried.add(case.operation.label)
            case.validate_response(case.call(base_url=server.url), checks=CHECKS)

        try:
            holds()
        except Unsatisfiable:
            continue  # nothing that is sent to it can be wrong
    assert "POST /v1/predict" in tried and "POST /v2/models/{name}/infer" in tried


def test_every_route_and_its_errors_are_described(server):
    described = server.client.get("/openapi.json").json()
    assert {"/v1/predict", "/v1/explain", "/v1/models", "/v1/classes", "/v1/feedback", "/v2/models/{name}/infer"} <= set(described["paths"])
    for path, methods in described["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status >= "400" and "health" not in path:
                    (ref,) = (each["schema"]["$ref"] for each in response["content"].values())
                    assert ref.endswith("V2Error" if path.startswith("/v2") else "ErrorBody"), (path, status)
