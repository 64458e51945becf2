"""Secrets leave nothing of themselves in a log, whatever stands around them."""

from __future__ import annotations

import base64
import json
import logging
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, ValidationError

from observability.telemetry.exceptions import told
from observability.telemetry.lines import JsonLines
from observability.telemetry.redaction import HIDDEN, hides, redacted
from services.common.signing import Keyring

HEX = "0123456789abcdef"
hexes = st.text(HEX, min_size=48, max_size=48)
ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
around = st.text(st.characters(codec="utf-8", exclude_characters=HEX + "_-"), max_size=30)
URL_SAFE = string.ascii_letters + string.digits + "-_"


def line_of(message: str, **fields: object) -> str:
    record = logging.LogRecord("services.x", logging.INFO, "f", 1, message, None, None)
    record.__dict__.update(fields)
    return JsonLines({"service": "demo"}).format(record)


@settings(deadline=None, max_examples=50)
@given(around, ids, hexes, around)
@example("\n", "dev-1", "a" * 48, "\\")
def test_of_an_api_key_the_id_stays_and_the_secret_goes(before: str, key_id: str, secret: str, after: str) -> None:
    text = f"{before}tk_{key_id}_{secret}{after}"
    for line in (line_of("x", problem=text), line_of(text), line_of("x", kept={"a": [text]}), line_of("x", at=text)):
        assert secret not in line
        assert f"tk_{key_id}_" in json.dumps(json.loads(line), ensure_ascii=False)
    assert secret not in told(ValueError(text))


@settings(deadline=None, max_examples=50)
@given(around, hexes, around)
def test_the_secret_of_a_key_alone_and_the_hash_of_one_go(before: str, secret: str, after: str) -> None:
    assert secret not in redacted(f"{before}{secret}{after}")
    assert secret not in redacted(f"{before}{secret}{secret[:16]}{after}")


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=32, max_size=32), ids)
def test_of_a_handle_the_tag_goes(key: bytes, client: str) -> None:
    handle = Keyring((key,)).sign_handle("a1b2c3", client)
    shown = redacted(f"page handle {handle!r} is gone")
    assert handle.rsplit(".", 1)[1] not in shown
    assert handle.rsplit(".", 1)[0] in shown


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.sampled_from(("client", "key", "allow")), ids, min_size=1), st.binary(min_size=32, max_size=32)
)
def test_grants_and_tokens_of_authorization_servers_go(payload: dict[str, str], mac: bytes) -> None:
    def b64(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    body, tag = b64(json.dumps({"v": 1, **payload}).encode()), b64(mac)
    shown = redacted(f"X-Tekup-Grant: {body}.{tag}, and more")
    assert body not in shown
    assert tag not in shown
    assert shown.endswith(", and more")


@settings(deadline=None, max_examples=50)
@given(st.text(URL_SAFE, min_size=12, max_size=80), st.sampled_from(("Bearer ", "bearer  ", "BASIC ")))
def test_bearers_go(secret: str, scheme: str) -> None:
    assert secret not in redacted(f"Authorization: {scheme}{secret}")
    assert secret not in redacted(f"(b'x', b'{scheme}{secret}')")


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2",
        "PASSWORD: hunter2",
        "{'api_key': 'hunter2'}",
        '{"client_secret":"hunter2"}',
        "Cookie: a=b; session=hunter2",
        "(b'set-cookie', b'session=hunter2')",
        "http://me:hunter2@host/path",
        "GET /callback?code=hunter2&state=1",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nhunter2",
        "Authorization: hunter2",
    ],
)
def test_values_that_are_named_as_secrets_go(text: str) -> None:
    assert "hunter2" not in redacted(text)
    assert HIDDEN in redacted(text)


@pytest.mark.parametrize(
    "secret",
    [
        "6f1d2a3b-0c4d-4e5f-8a9b-0c1d2e3f4a5b",  # a token of Consul
        "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",  # the gossip key
        "dGhpcyBpcyBhbiBvcGVyYXRvcnMgdG9rZW4tMDEyMzQ",  # an operator's token
    ],
)
def test_key_material_goes_by_its_form(secret: str) -> None:
    assert secret not in redacted(f"it is {secret} now")


@pytest.mark.parametrize(
    "text",
    [
        "0123456789abcdef0123456789abcdef",  # a trace
        "filesystem_read_file",
        "/home/dev/.tekup/secrets/consul/control-plane.token cannot be read: Permission denied",
        "http://127.0.0.1:8500/v1/health/service/mcp-search did not answer within 3 s",
        "no live gate has revision 12 of epoch 3 in force yet; see `tekup gates`",
        "2026-11-26T03:40:42.123+00:00",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text
    assert redacted(text) == text  # from memory


@pytest.mark.parametrize(
    "name",
    ["token", "authorization", "api_key", "apiKey", "Set-Cookie", "arguments", "content", "clientSecret", "x-mac"],
)
def test_fields_are_hidden_by_their_names(name: str) -> None:
    assert hides(name)
    for value in ("s3cr3t-value", ["s3cr3t-value"], {"a": "s3cr3t-value"}, b"s3cr3t-value"):
        assert "s3cr3t-value" not in line_of("x", **{name: value})
        assert "s3cr3t-value" not in line_of("x", about={name: value})


@pytest.mark.parametrize(
    "name", ["token_file", "key_id", "content_type", "tool", "reason", "path", "keyboard", "secrets_path"]
)
def test_names_that_only_tell_of_a_secret_do_not_hide(name: str) -> None:
    assert not hides(name)


def test_counts_stay_whatever_their_name() -> None:
    assert json.loads(line_of("x", keys=3, tokens=0))["keys"] == 3


def test_what_a_line_remembers_of_one_field_does_not_show_another() -> None:
    lines = JsonLines({"service": "demo"})
    for _ in range(3):
        for fields in ({"reason": "s3cr3t-value"}, {"token": "s3cr3t-value"}, {"reason": "password=s3cr3t-value"}):
            record = logging.LogRecord("services.x", logging.INFO, "f", 1, "x", None, None)
            record.__dict__.update(fields)
            assert ("s3cr3t" in lines.format(record)) is (fields == {"reason": "s3cr3t-value"})


class Given(BaseModel):
    number: int


def test_what_a_caller_sent_is_not_in_what_a_validation_says_of_it() -> None:
    sent = {"number": "the contents of a file"}
    with pytest.raises(ValidationError) as caught:
        Given.model_validate(sent)
    for text in (redacted(str(caught.value)), told(caught.value), line_of("tool.schema", reason=str(caught.value))):
        assert "the contents" not in text
        assert "valid integer" in text


def test_an_exception_keeps_its_place_and_not_the_contents_it_quotes() -> None:
    password = "password=hunter2"
    contents = "top secret line one\nand 'another' line two, which is long"
    try:
        try:
            raise ValueError(f"cannot parse {contents!r}")
        except ValueError as cause:
            raise ToolError(f"{password} {'x' * 5000}") from cause
    except ToolError as error:
        text = told(error)
    assert "top secret" not in text
    assert "=hunter2" not in text
    assert "test_redaction.py" in text
    assert "ValueError: cannot parse" in text
    assert len(text) < 2500


def test_a_group_of_exceptions_is_told_with_each_of_them() -> None:
    text = told(ExceptionGroup("two", [ValueError("one"), KeyError("two")]))
    assert "  | ValueError: one" in text
    assert "  | KeyError: 'two'" in text


def test_exceptions_in_a_circle_end() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert told(one).count("ValueError") == 2
