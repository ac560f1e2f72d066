"""The bridge itself over TLS with certificates and tokens: sessions, refusals, listening elsewhere."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from host_bridge import EdgeClient, serving, start_server
from host_bridge.links import FaultProxy
from host_bridge.security import ClientSecurity, ServerSecurity
from host_bridge.security.development import Files, make_certificates
from host_bridge.server.limits import Limits
from neucodex_lava.errors import BridgeError, ConfigError


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Files:
    return make_certificates(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Files:
    return make_certificates(tmp_path_factory.mktemp("other"))


def guarded(files) -> ServerSecurity:
    return ServerSecurity(files.server_certificate, files.server_key, files.ca, files.tokens)


def trusted(files, **changes) -> ClientSecurity:
    fields = {
        "ca": files.ca,
        "certificate": files.client_certificate,
        "key": files.client_key,
        "token": files.token.read_text().strip(),
    }
    return ClientSecurity(**(fields | changes))


def edge(address, tail, security) -> EdgeClient:
    return EdgeClient(
        address,
        model=tail.model,
        code_shape=tail.code_shape,
        t_max=4,
        security=security,
        patience_s=30.0,
    )


def run_sample(client, codes) -> np.ndarray:
    client.start_sample()
    sums = np.stack([client.step(code).sums for code in codes])
    client.end_sample()
    return sums


def test_answers_over_tls_are_the_same(own, make_tail):
    tail = make_tail()
    codes = tail.codes(3)[0]
    with (
        serving(tail, security=guarded(own)) as address,
        edge(address, tail, trusted(own)) as client,
    ):
        assert np.array_equal(run_sample(client, codes), tail.run(codes))


def test_a_broken_tls_session_is_taken_up_again(own, make_tail):
    tail = make_tail()
    codes = tail.codes(4)[0]
    with serving(tail, security=guarded(own)) as address:
        proxy = FaultProxy(address)
        with proxy as through, edge(through, tail, trusted(own)) as client:
            client.start_sample()
            sums = [client.step(codes[0]).sums]
            proxy.reset_all()
            sums += [client.step(code).sums for code in codes[1:]]
            assert client.counts.reconnects >= 1
    assert np.array_equal(np.stack(sums), tail.run(codes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"token": None}, "the server asks for a token"),
        ({"token": "x" * 43}, "the server does not know this token"),
        ({"certificate": None, "key": None}, "asks for a client certificate"),
        ({"ca": None, "certificate": None, "key": None}, "speaks TLS only"),
    ],
)
def test_whoever_lacks_something_is_told_at_once(own, make_tail, changes, says):
    tail = make_tail()
    with serving(tail, security=guarded(own)) as address:
        with pytest.raises(BridgeError) as caught:
            edge(address, tail, trusted(own, **changes)).open()
        assert says in caught.value.message
        assert caught.value.status == "UNAUTHENTICATED"
        assert caught.value.hint
        with edge(address, tail, trusted(own)) as client:
            assert client.classes == tail.classes
    assert tail.steps == 0


def test_a_strangers_certificates_fail_in_both_directions(own, other, make_tail):
    tail = make_tail()
    with serving(tail, security=guarded(own)) as address:
        for security, says in [
            (trusted(other, ca=own.ca), "refuses this edge's certificate"),
            (trusted(own, ca=other.ca), "is refused: unable to get local issuer certificate"),
        ]:
            with pytest.raises(BridgeError) as caught:
                edge(address, tail, security).open()
            assert says in caught.value.message
            assert caught.value.status == "UNAUTHENTICATED"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_protection_it_listens_on_loopback_only(make_tail, own, host):
    tls_only = ServerSecurity(own.server_certificate, own.server_key)
    for security in (None, tls_only, ServerSecurity(tokens=own.tokens)):
        with pytest.raises(ConfigError, match="is not loopback"):
            asyncio.run(start_server(make_tail(), host, 0, security=security))


def test_with_protection_it_may_listen_everywhere(make_tail, own):
    async def run() -> str:
        server = await start_server(make_tail(), "0.0.0.0", 0, security=guarded(own))
        await server.stop(0)
        return server.address

    assert asyncio.run(run()).startswith("0.0.0.0:")


def test_whoever_is_refused_takes_no_place_and_whoever_hurries_is_held_off(own, make_tail):
    tail = make_tail()
    limits = Limits(max_sessions=1, opens_per_s=0.3)
    with serving(tail, security=guarded(own), limits=limits) as address:
        for _ in range(10):
            with pytest.raises(BridgeError, match="asks for a token"):
                edge(address, tail, trusted(own, token=None)).open()
        with edge(address, tail, trusted(own)) as client:
            assert client.classes == tail.classes
        hurried = EdgeClient(
            address,
            model=tail.model,
            code_shape=tail.code_shape,
            t_max=4,
            security=trusted(own),
            patience_s=0,
        )
        with pytest.raises(BridgeError, match="faster than 0.3 a second") as caught:
            hurried.open()
        assert caught.value.status == "RESOURCE_EXHAUSTED"
        # A patient edge comes again when it is told.
        with edge(address, tail, trusted(own)) as client:
            assert client.classes == tail.classes


def test_a_certificate_is_renewed_without_a_restart(tmp_path, own, other, make_tail):
    tail = make_tail()
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"

    def install(files):
        # The key first and the certificate a moment later, as tools for renewal write them.
        for source, target in ((files.server_key, key), (files.server_certificate, certificate)):
            new = target.with_suffix(".new")
            new.write_bytes(source.read_bytes())
            new.chmod(0o600)
            new.replace(target)

    install(own)
    security = ServerSecurity(certificate, key, tokens=own.tokens)
    ours, theirs = (
        ClientSecurity(files.ca, token=own.token.read_text().strip()) for files in (own, other)
    )
    with serving(tail, security=security) as address, edge(address, tail, ours) as client:
        install(other)
        with edge(address, tail, theirs) as renewed:
            assert renewed.classes == tail.classes
        with pytest.raises(BridgeError, match="unable to get local issuer certificate"):
            edge(address, tail, ours).open()
        certificate.write_text("half a file")
        with edge(address, tail, theirs) as renewed:
            assert renewed.classes == tail.classes
        # A session that is open is none of a renewal's business.
        codes = tail.codes(5)[0]
        assert np.array_equal(run_sample(client, codes), tail.run(codes))
