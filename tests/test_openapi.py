"""The description of the API: whole, valid, and what the documents and the pages say."""

import io
import re
from pathlib import Path

import pytest
from django.core.management import call_command
from playwright.sync_api import expect

pytest_plugins = ["tests.browser"]

DOCS = Path(__file__).parent.parent / "docs"
TEXT = (DOCS / "api.md").read_text()


@pytest.fixture
def described(client):
    answer = client.get("/api/schema")
    assert answer["Content-Type"] == "application/json"
    return answer.json()


@pytest.fixture
def operations(described):
    return {
        f"{method.upper()} {path}": operation
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }


def types_of(operation):
    """The `type` values of the operation's errors."""
    return {
        kind
        for status, response in operation["responses"].items()
        if status >= "400"
        for kind in response["content"]["application/json"]["schema"]["allOf"][1]["properties"][
            "error"
        ]["properties"]["type"]["enum"]
    }


def test_the_description_is_valid_and_raises_no_warning():
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=io.StringIO())


def test_each_operation_says_what_it_does_and_what_can_go_wrong(operations):
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert types_of(operation) >= {"error", "not_acceptable"}, name
        if operation.get("security"):
            assert types_of(operation) >= {"not_authenticated", "authentication_failed"}, name


def test_each_credential_is_described(described, operations):
    schemes = described["components"]["securitySchemes"]

    assert set(schemes) == {"secretKey", "publishableKey", "memberToken"}
    assert {(scheme["type"], scheme["scheme"]) for scheme in schemes.values()} == {
        ("http", "bearer")
    }
    assert operations["GET /api/v1/purchases"]["security"] == [{"secretKey": []}]
    assert operations["GET /api/purchases"]["security"] == [{"memberToken": []}]


def test_the_document_names_only_calls_that_exist(described):
    named = set(re.findall(r"/api/v1/[a-z0-9/{}-]+", TEXT))

    assert len(named) > 5
    assert named <= set(described["paths"])


def errors_in(text):
    """The `type` values in the text's table of errors."""
    rows = re.findall(r"^\| [\d, ]+ \| (`.*?`) \|", text, re.MULTILINE)
    return {kind for row in rows for kind in re.findall(r"`(\w+)`", row)}


def errors_of(operations, scheme):
    return {
        kind
        for operation in operations.values()
        if operation.get("security") == [{scheme: []}]
        for kind in types_of(operation)
    }


def test_the_documents_table_has_each_error_of_the_servers_calls(operations):
    assert errors_in(TEXT) == errors_of(operations, "secretKey")


def test_the_documents_table_has_each_error_that_a_site_can_act_on(operations):
    # What the SDK never provokes, or mends by itself.
    others = {
        *("error", "invalid_member_token", "invalid_request", "not_acceptable"),
        *("not_authenticated", "parse_error", "unsupported_media_type"),
    }
    named = errors_in((DOCS / "integrating.md").read_text())

    assert named == errors_of(operations, "publishableKey") - others


def test_the_page_shows_the_calls_without_a_complaint(visitor, server):
    page = visitor.open(f"{server.url}/api/docs")

    expect(page.get_by_text("/api/v1/audience-members", exact=True)).to_be_visible()
    page.get_by_text("/api/v1/access", exact=True).click()
    expect(page.get_by_text("not_found").first).to_be_visible()
    assert {request.url.split("/")[2] for request in visitor.calls("http")} == {
        server.url.removeprefix("http://")
    }
    page.screenshot(path=Path(__file__).parent / "screenshots" / "api-docs.png")
