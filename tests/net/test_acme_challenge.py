from __future__ import annotations

import ssl

from fastgw.net.acme_challenge import CHALLENGE_PROTOCOL, challenge_context
from fastgw.snapshot import KeyPair
from tests.net.tls_peers import MemoryClient, authority, client_context, meet


def test_the_protocol_of_authorities_is_spoken_with_the_certificate_given() -> None:
    made = authority().issue_cert("a.test")
    pair = KeyPair(made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes())
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = client_context(version)
        client.set_alpn_protocols([CHALLENGE_PROTOCOL.decode()])
        one = MemoryClient(client)
        meet(challenge_context(pair), one)
        assert one.side.selected_alpn_protocol() == "acme-tls/1"
        shown = one.side.getpeercert(binary_form=True)
        assert shown == ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())
