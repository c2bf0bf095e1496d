from __future__ import annotations

import ssl

import pytest

from fastgw.net.ticket_keys import TICKET_KEYS_SIZE, TicketKeysError, set_ticket_keys
from tests.net.tls_peers import MemoryClient, client_context, meet, server_context

KEYS, OTHER_KEYS = bytes(range(TICKET_KEYS_SIZE)), bytes(TICKET_KEYS_SIZE)


def session_with(server: ssl.SSLContext, client: ssl.SSLContext, earlier: ssl.SSLSession | None) -> ssl.SSLObject:
    """The client's side of a connection, after a byte from the server, with which a TLS 1.3 ticket comes."""
    one = MemoryClient(client, earlier)
    meet(server, one)
    return one.side


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("keys", "resumes"), [(KEYS, True), (OTHER_KEYS, False)])
def test_a_session_is_resumed_with_another_context_of_the_same_keys(
    version: ssl.TLSVersion, keys: bytes, resumes: bool
) -> None:
    first, second = server_context(), server_context()
    set_ticket_keys(first, KEYS)
    set_ticket_keys(second, keys)
    client = client_context(version)
    met = session_with(first, client, None)
    assert met.session_reused is False
    assert session_with(second, client, met.session).session_reused is resumes


def test_keys_of_another_size_are_refused() -> None:
    with pytest.raises(TicketKeysError):
        set_ticket_keys(server_context(), b"short")


def test_an_object_that_is_no_context_is_found_out_before_anything_is_called() -> None:
    with pytest.raises(TicketKeysError):
        set_ticket_keys([], KEYS)  # type: ignore[arg-type]


def test_a_context_that_was_not_made_for_servers_alone_is_left_alone() -> None:
    with pytest.raises(TicketKeysError):
        set_ticket_keys(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), KEYS)
