"""NATS and Redis behind TLS and a login, as production has them: whoever has both is let in, and all others are told
which of the two was wrong, without the password."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys
import pytest
from nacl.signing import SigningKey

from compose.ports import free_ports
from compose.servers import nats as server
from gameday.drivers import nats, redis_streams
from gameday.errors import ConfigError, DriverError
from gameday.model import Outcome
from gameday.system.tls import Tls
from tests.contract.certificates import Authority
from tests.contract.conftest import PASSWORD, serving
from tests.contract.sockets import saying

pytestmark = pytest.mark.suite("brokers")

TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Behind:
    """A server behind TLS. url: with user and password. ca, other: files of who signed its certificate, and of somebody
    else."""

    url: str
    ca: str
    other: str

    def probe(self, url: str, ca: str = "", **more: Any) -> Any:
        kind = nats.Probe if url.startswith(("nats", "tls")) else redis_streams.Probe
        return kind(url, TIMEOUT_S, tls=Tls(ca, **more))


@contextmanager
def secured_nats(folder: Path, files: tuple[str, str], more: str = "") -> Iterator[str]:
    """A NATS server that wants TLS; its URL."""
    port, monitoring = free_ports(2)
    service = server.process(folder, port, monitoring, PASSWORD, name="secured")
    config = folder / "nats.conf"
    config.write_text(config.read_text() + f'tls {{ cert_file: "{files[0]}", key_file: "{files[1]}"{more} }}\n')
    with serving(service):
        yield server.url(port, PASSWORD).replace("nats://", "tls://")


@contextmanager
def relayed(port: int, files: tuple[str, str]) -> Iterator[int]:
    """A port that speaks TLS and passes on to another without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError):
                near = context.wrap_socket(plain, server_side=True)
                far = socket.create_connection(("127.0.0.1", port))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module", params=["nats", "redis"])
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("secured")
    own, other = Authority(folder, "own"), Authority(folder, "other")
    files = own.certificate("server")
    if request.param == "nats":
        with secured_nats(folder / "nats", files) as url:
            yield Behind(url, str(own.ca), str(other.ca))
        return
    plain: str = request.getfixturevalue("redis_url")
    with relayed(int(plain.rpartition(":")[2]), files) as port:
        url = plain.rpartition(":")[0].replace("redis://", "rediss://") + f":{port}"
        yield Behind(url, str(own.ca), str(other.ca))


def test_who_trusts_it_and_knows_the_password_is_let_in(behind: Behind) -> None:
    """By probes, and by what asks for more."""
    assert behind.probe(behind.url, behind.ca).read() == {"": 1.0}


@pytest.mark.parametrize("ca", ["", "other"])
def test_a_certificate_that_is_not_trusted_is_named(behind: Behind, ca: str) -> None:
    """With the remedy; and the password is told to nobody."""
    with pytest.raises(DriverError, match=r"not trusted .*Remedy: ca = ") as raised:
        behind.probe(behind.url, behind.other if ca else "").read()
    assert PASSWORD not in str(raised.value)


def test_a_wrong_password_is_named_behind_tls_too(behind: Behind) -> None:
    """As such."""
    with pytest.raises(DriverError, match=r"(?i)authorization violation|invalid username"):
        behind.probe(behind.url.replace("@127", "x@127"), behind.ca).read()


def test_a_server_without_tls_is_not_told_the_password(jetstream: str, redis_url: str, tmp_path: Path) -> None:
    """Where the address asks for TLS."""
    ca = str(Authority(tmp_path, "own").ca)
    for url in (jetstream.replace("nats://", "tls://"), redis_url.replace("redis://", "rediss://")):
        with pytest.raises(DriverError, match=r"does not speak TLS|no answer within|disconnect|closed|reset|EOF"):
            Behind("", "", "").probe(url, ca).read()
    said: list[bytes] = []
    greeting = b'INFO {"server_name":"x","auth_required":true,"max_payload":1048576}\r\n'
    with (
        listening(greeting, said) as port,
        pytest.raises(DriverError, match=r"does not speak TLS. Remedy: nats:// in its address"),
    ):
        nats.Probe(f"tls://me:secret@127.0.0.1:{port}", TIMEOUT_S, tls=Tls(ca)).read()
    assert b"secret" not in b"".join(said)


@contextmanager
def listening(greeting: bytes, said: list[bytes]) -> Iterator[int]:
    """A server that greets, and keeps all that it is told."""

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            connection.sendall(greeting)
            while data := connection.recv(4096):
                said.append(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


def test_a_server_that_greets_and_says_no_more_is_given_up_in_time() -> None:
    """It answers a ping, and JetStream is silent."""
    greeting = b'INFO {"server_name":"x","max_payload":1048576}\r\nPONG\r\n'
    began = time.monotonic()
    with listening(greeting, []) as port, pytest.raises(DriverError, match=r"no answer within 0\.9 s"):
        nats.Cursor(f"nats://127.0.0.1:{port}", "t", "c").end()
    assert time.monotonic() - began < 3


def test_a_server_that_wants_to_know_its_clients_is_shown_a_certificate(tmp_path: Path) -> None:
    """And without one it says so."""
    own = Authority(tmp_path, "own")
    files, client = own.certificate("server"), own.certificate("client")
    with secured_nats(tmp_path / "nats", files, f', ca_file: "{own.ca}", verify: true') as url:
        mine = nats.Probe(url, TIMEOUT_S, tls=Tls(str(own.ca), client[0], client[1]))
        assert mine.read() == {"": 1.0}
        with pytest.raises(DriverError):
            nats.Probe(url, TIMEOUT_S, tls=Tls(str(own.ca))).read()


# ---- who one is ------------------------------------------------------------------------------------------------------


def seed(folder: Path, name: str, prefix: int) -> tuple[nkeys.KeyPair, Path]:
    """A new key, and the file with its seed."""
    made = nkeys.encode_seed(bytes(SigningKey.generate()), prefix)
    file = folder / f"{name}.seed"
    file.write_bytes(made)
    return nkeys.from_seed(bytearray(made)), file


@contextmanager
def configured(folder: Path, who: str) -> Iterator[int]:
    """A NATS server with this in place of user and password; its port."""
    port, monitoring = free_ports(2)
    service = server.process(folder, port, monitoring, PASSWORD, name="keys")
    config = folder / "nats.conf"
    lines = [line for line in config.read_text().splitlines() if not line.startswith(("authorization", "jetstream"))]
    config.write_text("\n".join([*lines, who, ""]))
    with serving(service):
        yield port


def test_a_file_with_a_seed_signs_in(tmp_path: Path) -> None:
    """Another one does not; and a token stands in the address."""
    pair, file = seed(tmp_path, "own", nkeys.PREFIX_BYTE_USER)
    _, other = seed(tmp_path, "other", nkeys.PREFIX_BYTE_USER)
    with configured(tmp_path / "nats", f"authorization {{ users: [{{ nkey: {pair.public_key.decode()} }}] }}") as port:
        url = f"nats://127.0.0.1:{port}"
        assert nats.Probe(url, TIMEOUT_S, credentials=str(file)).read() == {"": 1.0}
        with pytest.raises(DriverError, match="Authorization Violation"):
            nats.Probe(url, TIMEOUT_S, credentials=str(other)).read()
    with configured(tmp_path / "token", 'authorization { token: "for/tests" }') as port:
        assert nats.Probe(f"nats://for%2Ftests@127.0.0.1:{port}", TIMEOUT_S).read() == {"": 1.0}
        with pytest.raises(DriverError, match="Authorization Violation"):
            nats.Probe(f"nats://other@127.0.0.1:{port}", TIMEOUT_S).read()


def token(claims: Mapping[str, Any], by: nkeys.KeyPair) -> str:
    """A JWT as NATS signs them."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    issued = {"iss": by.public_key.decode(), "iat": int(time.time()), **claims}
    issued["jti"] = base64.b32encode(hashlib.sha256(json.dumps(issued).encode()).digest()).decode().rstrip("=")
    head = part(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    body = f"{head}.{part(json.dumps(issued).encode())}"
    return f"{body}.{part(by.sign(body.encode()))}"


def test_a_file_of_credentials_signs_in(tmp_path: Path) -> None:
    """As an operator's server wants them: a token that an account has signed, and the user's seed."""
    operator, _ = seed(tmp_path, "operator", nkeys.PREFIX_BYTE_OPERATOR)
    account, _ = seed(tmp_path, "account", nkeys.PREFIX_BYTE_ACCOUNT)
    user, file = seed(tmp_path, "user", nkeys.PREFIX_BYTE_USER)
    o, a, u = (pair.public_key.decode() for pair in (operator, account, user))
    none = {"subs": -1, "data": -1, "payload": -1}
    limits = {**none, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
    of_operator = token({"sub": o, "name": "O", "nats": {"type": "operator", "version": 2}}, operator)
    of_account = token({"sub": a, "name": "A", "nats": {"limits": limits, "type": "account", "version": 2}}, operator)
    of_user = token({"sub": u, "name": "U", "nats": {**none, "type": "user", "version": 2}}, account)
    credentials = tmp_path / "user.creds"
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{file.read_text()}\n------END USER NKEY SEED------\n"
    )
    trust = f'operator: "{of_operator}"\nresolver: MEMORY\nresolver_preload: {{ {a}: "{of_account}" }}'
    with configured(tmp_path / "nats", trust) as port:
        url = f"nats://127.0.0.1:{port}"
        assert nats.Probe(url, TIMEOUT_S, credentials=str(credentials)).read() == {"": 1.0}
        with pytest.raises(DriverError, match=r"(?i)authorization"):
            nats.Probe(url, TIMEOUT_S).read()
        with pytest.raises(DriverError, match="no JetStream"):
            nats.Cursor(url, "t", "c", credentials=str(credentials)).end()


def test_a_file_of_credentials_that_is_not_there_is_named() -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigError, match=r"credentials is '/none'.*Remedy"):
        nats.Probe("nats://127.0.0.1:1", TIMEOUT_S, credentials="/none")


def test_another_server_than_the_one_that_is_named_is_refused(jetstream: str) -> None:
    """A stranger on the port must not count as the server that answers."""
    assert nats.Probe(jetstream, TIMEOUT_S, server="tests").read() == {"": 1.0}
    with pytest.raises(DriverError, match="is answered by server 'tests', not 'orders'"):
        nats.Probe(jetstream, TIMEOUT_S, server="orders").read()


def test_what_may_not_be_published_is_refused(tmp_path: Path) -> None:
    """Which the server says besides, and not in an answer."""
    who = 'authorization { users: [{ user: u, password: p, permissions: { publish: { deny: "x" } } }] }'
    with configured(tmp_path / "nats", who) as port:
        sent = nats.Canary(f"nats://u:p@127.0.0.1:{port}", "x", "{n}", 0.5).send({"n": "1"})
    assert sent.outcome is Outcome.REFUSED
    assert "permissions violation" in sent.why.lower()


def test_of_several_servers_one_that_hangs_keeps_no_other_from_being_asked(jetstream: str) -> None:
    """It takes connections, as a frozen process does, and says nothing."""
    with saying(b"") as port:
        login, _, host = jetstream.rpartition("@")
        assert nats.Probe(f"{login}@127.0.0.1:{port},{host}", TIMEOUT_S).read() == {"": 1.0}
