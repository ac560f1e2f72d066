"""Who is let in, over real TLS on real sockets, and what those hear who are not."""

from __future__ import annotations

import datetime
import os
import resource
import ssl
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from host_bridge.security import ClientSecurity, ServerSecurity, development
from host_bridge.security.development import Files, make_certificates
from host_bridge.security.tokens import Tokens, token_line
from neucodex_lava.errors import BridgeError, ConfigError

DAY_S = 86_400


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Files:
    return make_certificates(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Files:
    return make_certificates(tmp_path_factory.mktemp("other"), client="stranger")


@pytest.fixture(scope="module")
def expired(tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp("expired")
    return make_certificates(folder, days=1, valid_from_s=-3 * DAY_S)


@contextmanager
def server(security, raw=None) -> Iterator[str]:
    """A gRPC server that says who is calling; `raw` are credentials it would refuse to take itself."""

    def answer(_, context):
        try:
            name = security.authorise(context.invocation_metadata(), context.auth_context())
        except BridgeError as error:
            context.abort(getattr(grpc.StatusCode, error.status), error.message)
        return name.encode()

    running = grpc.server(ThreadPoolExecutor(1))
    method = grpc.unary_unary_rpc_method_handler(answer)
    running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.Y", {"Z": method}),))
    if raw is None:
        port = security.add_port(running, "127.0.0.1:0")
    else:
        port = running.add_secure_port("127.0.0.1:0", raw)
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop(None).wait()


def call(address, security):
    """Who the server takes us for, or the status's name and what it says."""
    with security.channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            method = channel.unary_unary("/x.Y/Z")
            return method(b"", timeout=10, metadata=security.metadata()).decode()
        except grpc.RpcError as error:
            return error.code().name, error.details()


def mutual(files):
    return ServerSecurity(files.server_certificate, files.server_key, client_ca=files.ca)


def edge(files, **changes):
    fields = {
        "ca": files.ca,
        "certificate": files.client_certificate,
        "key": files.client_key,
    }
    return ClientSecurity(**(fields | changes))


def token(files):
    return files.token.read_text().strip()


def refused_because(address, security):
    """gRPC's status, and what the edge finds out about it."""
    status, _ = call(address, security)
    error = security.explain(address)
    assert error.status == "UNAUTHENTICATED"
    assert error.hint
    return status, error.message.replace(address, "SERVER")


def test_a_client_certificate_of_the_right_authority_is_let_in_by_its_name(own):
    security = mutual(own)
    assert security.protects
    with server(security) as address:
        assert call(address, edge(own)) == "edge"
        assert edge(own).explain(address) is None


def test_names_that_logs_cannot_show_are_told_apart_by_their_certificates(tmp_path):
    # As another CA than ours may sign them.
    start = datetime.datetime.now(datetime.timezone.utc)
    span = (start - datetime.timedelta(hours=1), start + datetime.timedelta(hours=1))
    authority = development._Authority(x509, "CA", span)
    files = make_certificates(tmp_path)
    both = tmp_path / "both.crt"
    both.write_bytes(files.ca.read_bytes() + authority.certificate_pem)
    peers = []
    with server(ServerSecurity(files.server_certificate, files.server_key, both)) as address:
        for name in ("\u00e4", "\u00f6", "x" * 64, "with space"):
            key, certificate = authority.issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, [])
            (tmp_path / "own.key").write_bytes(key)
            (tmp_path / "own.key").chmod(0o600)
            (tmp_path / "own.crt").write_bytes(certificate)
            security = ClientSecurity(files.ca, tmp_path / "own.crt", tmp_path / "own.key")
            peers.append((call(address, security), certificate))
    assert peers.pop(2)[0] == "x" * 64
    for name, pem in peers:
        fingerprint = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()
        assert name == f"certificate {fingerprint}"


def test_no_client_certificate_or_a_strangers_is_refused(own, other):
    with server(mutual(own)) as address:
        nothing = ClientSecurity(own.ca)
        assert refused_because(address, nothing) == (
            "UNAVAILABLE",
            "SERVER asks for a client certificate",
        )
        stranger = edge(other, ca=own.ca)
        assert refused_because(address, stranger) == (
            "UNAVAILABLE",
            "SERVER refuses this edge's certificate",
        )
        assert call(address, edge(own)) == "edge"


def test_a_server_of_another_authority_is_not_trusted(own, other):
    with server(mutual(own)) as address:
        status, message = refused_because(address, ClientSecurity(other.ca))
    assert status == "UNAVAILABLE"
    assert message.startswith("the certificate of SERVER is refused: unable to get local issuer")


def test_a_server_that_is_not_who_the_address_says_is_not_trusted(tmp_path):
    files = make_certificates(tmp_path, hosts=["example.org", "192.0.2.1"])
    security = ServerSecurity(files.server_certificate, files.server_key)
    with server(security) as address:
        _, message = refused_because(address, ClientSecurity(files.ca))
    assert "not valid for '127.0.0.1'" in message


def test_an_expired_certificate_is_refused_on_whichever_side_it_lies(own, expired):
    for make in (mutual, edge):
        with pytest.raises(ConfigError, match="is of no use: certificate has expired"):
            make(expired)
    pair = (expired.server_key.read_bytes(), expired.server_certificate.read_bytes())
    with server(ServerSecurity(), raw=grpc.ssl_server_credentials([pair])) as address:
        _, message = refused_because(address, ClientSecurity(expired.ca))
    assert message == "the certificate of SERVER is refused: certificate has expired"


def test_an_expired_client_is_refused_by_the_server(own, expired):
    pair = (own.server_key.read_bytes(), own.server_certificate.read_bytes())
    raw = grpc.ssl_server_credentials([pair], expired.ca.read_bytes(), True)
    old = grpc.ssl_channel_credentials(
        own.ca.read_bytes(),
        expired.client_key.read_bytes(),
        expired.client_certificate.read_bytes(),
    )
    with (
        server(ServerSecurity(), raw=raw) as address,
        grpc.secure_channel(address, old) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary("/x.Y/Z")(b"", timeout=10)
    assert caught.value.code().name == "UNAVAILABLE"


def test_a_certificate_is_only_good_for_its_own_role(own):
    with pytest.raises(ConfigError, match="is of no use: .*purpose"):
        ServerSecurity(own.client_certificate, own.client_key)


def test_plain_and_tls_tell_each_other_apart(own):
    with server(mutual(own)) as address:
        assert refused_because(address, ClientSecurity())[1] == "SERVER speaks TLS only"
    with server(ServerSecurity()) as address:
        assert refused_because(address, edge(own))[1] == "SERVER speaks no TLS"
        assert call(address, ClientSecurity()) == "anyone"
        assert ClientSecurity().explain(address) is None


def test_nothing_is_explained_where_nobody_listens(own):
    assert edge(own).explain("127.0.0.1:9") is None


def with_tokens(files):
    return ServerSecurity(files.server_certificate, files.server_key, tokens=files.tokens)


def test_a_token_is_asked_for_and_known_by_name(own, other):
    security = with_tokens(own)
    assert security.protects
    with server(security) as address:
        assert call(address, ClientSecurity(own.ca, token=token(own))) == "edge"
        assert call(address, ClientSecurity(own.ca)) == (
            "UNAUTHENTICATED",
            "the server asks for a token",
        )
        assert call(address, ClientSecurity(own.ca, token=token(other))) == (
            "UNAUTHENTICATED",
            "the server does not know this token",
        )


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "")],
        [("authorization", "Basic {}")],
        [("authorization", "{}")],
        [("authorization", "Bearer {} ")],
        [("authorization", "Bearer " + "x" * 10_000)],
        [("authorization", "Bearer {}"), ("authorization", "Bearer {}")],
    ],
)
def test_other_ways_to_show_a_token_are_refused(own, headers):
    shown = [(key, value.format(token(own))) for key, value in headers]
    with pytest.raises(BridgeError) as caught:
        with_tokens(own).authorise(shown, {})
    assert caught.value.status == "UNAUTHENTICATED"
    assert token(own) not in str(caught.value)


def test_both_are_asked_for_where_both_are_given(own, other):
    security = ServerSecurity(own.server_certificate, own.server_key, own.ca, own.tokens)
    with server(security) as address:
        assert call(address, edge(own, token=token(own))) == "edge"
        assert call(address, edge(own))[0] == "UNAUTHENTICATED"
        assert call(address, ClientSecurity(own.ca, token=token(own)))[0] == "UNAVAILABLE"


def test_a_token_leaves_this_machine_over_tls_only(own):
    plain = ClientSecurity(token=token(own))
    plain.channel("127.0.0.1:1").close()
    with pytest.raises(ConfigError, match=r"the token would go to 192.0.2.1:1 unencrypted"):
        plain.channel("192.0.2.1:1")
    ClientSecurity(own.ca, token=token(own)).channel("192.0.2.1:1").close()


def test_listening_beyond_loopback_needs_tls_and_someone_to_ask(own):
    plain_tokens = ServerSecurity(tokens=own.tokens)
    tls_only = ServerSecurity(own.server_certificate, own.server_key)
    for security in (ServerSecurity(), plain_tokens, tls_only):
        assert not security.protects
        security.check_host("127.0.0.1")
        with pytest.raises(ConfigError, match=r"host 0.0.0.0 is not loopback"):
            security.check_host("0.0.0.0")
    for security in (mutual(own), with_tokens(own)):
        security.check_host("0.0.0.0")


def test_a_token_can_be_revoked_and_given_without_a_restart(tmp_path):
    path = tmp_path / "tokens"

    def write(*entries):
        path.write_text("# of the edges\n\n" + "".join(f"{entry}\n" for entry in entries))
        path.chmod(0o600)
        # Two writes within a clock's tick look alike but for their time.
        write.count += 1
        os.utime(path, ns=(write.count, write.count))

    write.count = 1
    first, second = "a" * 32, "b" * 32
    write(token_line("one", first), token_line("two", second))
    tokens = Tokens(path)
    assert [tokens.name_of(t) for t in (first, second, "c" * 32)] == ["one", "two", None]
    write(token_line("two", second))
    assert [tokens.name_of(t) for t in (first, second)] == [None, "two"]
    write("half a line")
    assert tokens.name_of(second) is None
    write(token_line("two", second))
    assert tokens.name_of(second) == "two"
    path.unlink()
    assert tokens.name_of(second) is None


def test_files_that_do_not_do_are_named(own, other, tmp_path):
    missing = tmp_path / "missing"
    junk = tmp_path / "junk"
    junk.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    text = tmp_path / "text"
    text.write_text("hello")
    text.chmod(0o600)
    public = tmp_path / "public.key"
    public.write_bytes(own.server_key.read_bytes())
    public.chmod(0o644)
    certificate, key = own.server_certificate, own.server_key
    cases = [
        (lambda: ServerSecurity(missing, key), f"cannot read the certificate {missing}: No such"),
        (lambda: ServerSecurity(text, key), f"the certificate {text} is not a PEM file"),
        (lambda: ServerSecurity(junk, key), "is malformed"),
        (lambda: ServerSecurity(certificate, public), "is open to everyone on this machine"),
        (lambda: ServerSecurity(certificate, other.server_key), "is not that of the certificate"),
        (lambda: ServerSecurity(certificate), "are given together"),
        (lambda: ServerSecurity(client_ca=own.ca), "over TLS only"),
        (lambda: ServerSecurity(certificate, key, client_ca=junk), "holds no certificate"),
        (lambda: ServerSecurity(certificate, key, tokens=missing), "cannot read the token file"),
        (lambda: ServerSecurity(certificate, key, tokens=text), "line 1 of the token file"),
        (lambda: ClientSecurity(certificate=own.client_certificate), "are given together"),
        (
            lambda: ClientSecurity(certificate=own.client_certificate, key=own.client_key),
            "without the CA",
        ),
        (lambda: ClientSecurity(token="short"), "16 to 512 printable characters"),
        (lambda: ClientSecurity(token="with a space in the middle"), "printable characters"),
    ]
    for make, says in cases:
        with pytest.raises(ConfigError) as caught:
            make()
        assert says in caught.value.message
        assert "\n" not in str(caught.value)


def test_a_token_is_never_shown(own):
    secret = token(own)
    assert secret not in repr(ClientSecurity(token=secret))
    assert secret not in own.tokens.read_text()


def test_development_files_are_private_whole_and_never_overwritten(own, tmp_path):
    private = {own.ca_key, own.server_key, own.client_key, own.tokens, own.token}
    for path in vars(own).values():
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0 or path not in private
    before = {path: path.read_bytes() for path in vars(own).values()}
    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        make_certificates(own.ca.parent)
    assert {path: path.read_bytes() for path in vars(own).values()} == before
    # OpenSSL alone, with all its checks, agrees that these are a CA and a chain.
    context = ssl.create_default_context(cafile=own.ca)
    assert len(context.get_ca_certs()) == 1
    (tmp_path / "client.token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"client.token exists"):
        make_certificates(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["client.token"]


def test_development_files_are_all_written_or_none(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (400, before[1])
    )  # keys are shorter, certificates not
    try:
        with pytest.raises(ConfigError, match=r"cannot write .*: File too large"):
            make_certificates(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    assert make_certificates(tmp_path).ca.exists()


def test_development_certificates_refuse_nonsense(tmp_path):
    for arguments, says in [
        ({"days": 0}, "days is 0"),
        ({"hosts": []}, "no host"),
        ({"hosts": ["not a name"]}, "neither a host name nor an IP address"),
        ({"client": "a:b"}, "is not a name"),
    ]:
        with pytest.raises(ConfigError, match=says):
            make_certificates(tmp_path / "new", **arguments)
        assert not (tmp_path / "new").exists()
