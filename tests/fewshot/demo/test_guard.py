"""Who may talk to the server, and what a browser may do with its answers."""

import pytest

from fewshot.demo.guard import may_be_called
from tests.fewshot.demo.conftest import Served


@pytest.mark.parametrize("path", ["/", "/main.js", "/session", "/nothing"])
def test_every_answer_forbids_the_browser_all_but_this_server(served: Served, path: str) -> None:
    headers = served.client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {value for name, value in policy.items() if name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert "unsafe" not in headers["content-security-policy"]
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "192.168.0.7", "", "[x"]
)
def test_other_names_than_this_computers_are_not_answered(served: Served, host: str) -> None:
    for method, path in (("GET", "/"), ("POST", "/session")):
        refused = served.client.request(method, path, headers={"host": host})
        assert refused.status_code == 403
    assert len(served.sessions) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:7860", "LOCALHOST", "[::1]:7860", "127.0.0.2:1"])
def test_this_computers_own_names_are(served: Served, host: str) -> None:
    assert served.client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_requests_of_other_pages_are_turned_away(served: Served, headers: dict[str, str]) -> None:
    refused = served.client.post("/session", headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (403, "requests of other pages are not served")
    assert len(served.sessions) == 0


def test_requests_of_its_own_page_are_served(served: Served) -> None:
    headers = {"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"}
    assert served.client.post("/session", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("name", "host", "answered"),
    [
        ("192.168.0.7", "0.0.0.0", True),  # noqa: S104 - what a user may ask for
        ("evil.example", "0.0.0.0", False),  # noqa: S104
        ("scanner.clinic.example", "scanner.clinic.example", True),
        ("scanner.clinic.example", "127.0.0.1", False),
    ],
)
def test_a_server_of_the_network_answers_to_addresses_and_its_own_name(name: str, host: str, answered: bool) -> None:
    assert may_be_called(name, host) is answered


@pytest.mark.parametrize("path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/%2e%2e%2f%2e%2e%2fapi.py"])
def test_no_file_but_the_pages_own_is_given(served: Served, path: str) -> None:
    assert served.client.get(path).status_code == 404
