"""Whatever URL a tenant gives, nothing of ours but public hosts is ever connected to."""

import datetime
import json
import select
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from purchases import endpoints, notifications, outbound
from purchases.destinations import is_public
from purchases.models import NotificationDelivery, PurchaseEvent
from tenants.keys import create_key
from tenants.models import ApiKey
from tests.receiver import running_receiver

PUBLIC = "93.184.215.14"
ALIVE = "There was no answer in time."


@pytest.fixture
def listener():
    """A socket of this machine on every address it has, and the port it listens on."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        yield listener


def was_called(listener):
    return bool(select.select([listener], [], [], 0)[0])


@pytest.fixture
def port(listener):
    return listener.getsockname()[1]


@pytest.fixture
def resolve(monkeypatch):
    """Let the system's resolver give these answers for names, one after another."""
    answers = {}
    asked = []
    system = socket.getaddrinfo

    def getaddrinfo(host, port, *arguments, **options):
        if host not in answers or options.get("flags"):
            return system(host, port, *arguments, **options)
        asked.append(host)
        addresses = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [found for each in addresses for found in system(each, port, type=1)]

    def resolve(host, *addresses_in_turn):
        answers[host] = list(addresses_in_turn)
        return asked

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return resolve


@pytest.fixture
def register(client, tenant):
    """The details of the refusal of a URL, or None if it was taken."""
    key = create_key(tenant, ApiKey.Kind.SECRET)

    def register(url):
        answer = client.post(
            "/api/v1/notification-endpoints",
            json.dumps({"url": url}),
            content_type="application/json",
            headers={"Authorization": f"Bearer {key}"},
        )
        return None if answer.status_code == 201 else answer.json()["error"]["details"]["url"]

    return register


def deliver_to(tenant, url):
    """Give the tenant an endpoint, as if it had been registered; returns what came of an event."""
    endpoints.create_endpoint(tenant, url)
    PurchaseEvent.objects.create(tenant=tenant, type="credits.added")
    notifications.collect()
    notifications.deliver_due()
    return NotificationDelivery.objects.get()


# --- URLs that lead to ourselves


LOOPBACK_SPELLINGS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0X7F.1",
    "0177.0.0.1", "017700000001", "0", "0.0.0.0", "127.255.255.254", "127.0.0.1.",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fec0::1]",
    "[fd00:ec2::254]", "[ff02::1]", "[2001::1]", "[2001:db8::1]",
    "localhost", "LOCALHOST", "localhost.", "ip6-localhost",
    "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1",
    "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
def test_no_spelling_of_an_address_that_is_not_public_is_taken(host, register, listener, port):
    assert register(f"https://{host}:{port}/") is not None

    assert not was_called(listener)


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
def test_nor_is_one_called_that_got_in(host, tenant, listener, port):
    delivery = deliver_to(tenant, f"https://{host}:{port}/")

    assert (delivery.attempts, delivery.response_status) == (1, None)
    assert delivery.error not in ("", ALIVE)
    assert "refused" not in delivery.error
    assert not was_called(listener)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "//example.com/",
        "example.com",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://@example.com/",
        "https://example.com#@127.0.0.1/",
        "https://example.com/#fragment",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/a b",
        "https://example.com/\nHost: x",
        "https://example.com/\r\nHost:x",
        "https://example.com\t.evil/",
        "https://exam\x00ple.com/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:http/",
        "https://[::1/",
        "https://[example.com]/",
        "https://example.com/größe",
        "https://intranet/",
        "https://" + "a" * 64 + ".com/",
        "https://example..com/",
        "https://\u2100.com@127.0.0.1/",
    ],
)
def test_what_is_no_plain_https_url_is_refused_with_a_reason(url, register):
    (reason,) = register(url)

    assert reason.endswith(".")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/hook?x=1&y=%20",
        "HTTPS://EXAMPLE.COM/",
        "https://münchen.example/",
        "https://93.184.215.14/",
        "https://[2606:4700:4700::1111]/",
    ],
)
def test_a_public_https_url_is_taken(url, register):
    assert register(url) is None


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (PUBLIC, True),
        ("1.1.1.1", True),
        ("2606:4700:4700::1111", True),
        ("2a00:1450:4001:830::200e", True),
        ("100.63.255.255", True),
        ("100.128.0.0", True),
        ("100.127.255.255", False),
        ("198.18.0.1", False),
        ("203.0.113.9", False),
        ("::ffff:1.1.1.1", False),
        ("64:ff9b::101:101", False),
        ("2002:101:101::", False),
        ("fe80::1%lo", False),
        ("5f00::1", False),
        ("3fff::1", False),
    ],
)
def test_public_is_what_anybody_can_reach(address, expected):
    assert is_public(address) is expected


# --- names


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], [PUBLIC, "127.0.0.1"], ["10.0.0.1", PUBLIC], ["::ffff:127.0.0.1"]],
    ids=str,
)
def test_a_name_with_an_address_of_ours_is_never_called(addresses, resolve, tenant, listener, port):
    resolve("hooks.example.com", addresses)

    delivery = deliver_to(tenant, f"https://hooks.example.com:{port}/")

    assert delivery.error == "The host has an address that is not on the public Internet."
    assert not was_called(listener)


def test_a_name_that_changes_after_the_check_leads_nowhere(
    resolve, tenant, listener, port, monkeypatch
):
    asked = resolve("rebind.example.com", [PUBLIC], ["127.0.0.1"])
    connected = []
    monkeypatch.setattr(
        socket.socket, "connect", lambda sock, address: connected.append(address) or refuse()
    )

    deliver_to(tenant, f"https://rebind.example.com:{port}/")

    assert asked == ["rebind.example.com"]
    assert connected == [(PUBLIC, port)]
    assert not was_called(listener)


def refuse():
    raise ConnectionRefusedError(111, "Connection refused")


def test_a_name_that_nobody_knows_is_said_to_be_unknown(tenant):
    delivery = deliver_to(tenant, "https://nowhere.invalid/")

    assert delivery.error == "The host name can't be resolved."


def test_a_proxy_in_the_environment_is_not_used(resolve, tenant, listener, port, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    resolve("hooks.example.com", ["10.255.255.1"])

    deliver_to(tenant, "https://hooks.example.com/")

    assert not was_called(listener)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status, tenant, listener, port, settings):
    settings.NOTIFICATIONS_ALLOW_PRIVATE = True
    with running_receiver() as receiver:
        receiver.answers = [(status, {"Location": f"http://127.0.0.1:{port}/"})]
        delivery = deliver_to(tenant, receiver.url)

    assert (delivery.status, delivery.response_status) == ("pending", status)
    assert not was_called(listener)


# --- TLS


@pytest.fixture
def certified(tmp_path, monkeypatch):
    """Make a certificate for a name that the sender trusts; returns the server's TLS."""

    def certified(name):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        today = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem = tmp_path / "certificate.pem"
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(pem)
        server.names = []
        server.sni_callback = lambda sock, name, context: server.names.append(name)
        return server

    outbound.tls_context.cache_clear()
    yield certified
    outbound.tls_context.cache_clear()


@pytest.fixture
def hooks(resolve, settings):
    """Let hooks.example.com be this machine, which this test allows."""
    settings.NOTIFICATIONS_ALLOW_PRIVATE = True
    resolve("hooks.example.com", ["127.0.0.1"])
    resolve("bücher.example".encode("idna").decode(), ["127.0.0.1"])


@pytest.mark.parametrize("name", ["hooks.example.com", "bücher.example"])
def test_the_certificate_is_asked_for_and_checked_by_name(name, hooks, certified, tenant):
    ascii_name = name.encode("idna").decode()
    tls = certified(ascii_name)

    with running_receiver(tls) as receiver:
        delivery = deliver_to(tenant, receiver.url.replace("127.0.0.1", name))

    assert delivery.status == "delivered"
    assert tls.names == [ascii_name]
    (request,) = receiver.received
    port = receiver.url.split(":")[2].split("/")[0]
    assert request.headers["Host"] == f"{ascii_name}:{port}"


def test_anothers_certificate_is_refused_before_anything_is_sent(hooks, certified, tenant):
    with running_receiver(certified("other.example.com")) as receiver:
        delivery = deliver_to(tenant, receiver.url.replace("127.0.0.1", "hooks.example.com"))

    assert delivery.error.startswith("The certificate is not valid: Hostname mismatch")
    assert receiver.received == []


def test_a_certificate_that_nobody_vouches_for_is_refused(hooks, certified, tenant, monkeypatch):
    tls = certified("hooks.example.com")
    monkeypatch.delenv("SSL_CERT_FILE")

    with running_receiver(tls) as receiver:
        delivery = deliver_to(tenant, receiver.url.replace("127.0.0.1", "hooks.example.com"))

    assert delivery.error == "The certificate is not valid: self-signed certificate."
    assert receiver.received == []


# --- answers that are none


def serve_raw(listener, chunks, stop):
    """Answer one connection with these bytes, the last of them again and again."""
    with listener, listener.accept()[0] as connection:
        connection.recv(65536)
        try:
            for chunk in chunks:
                connection.sendall(chunk)
            while not stop.wait(0.05):
                connection.sendall(chunks[-1])
        except OSError:
            return


@pytest.fixture
def raw(settings, tenant):
    """Deliver to a server that answers with raw bytes."""
    settings.NOTIFICATIONS_ALLOW_PRIVATE = True

    def raw(*chunks, ends=True):
        stop = threading.Event()
        if ends:
            stop.set()
        server = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread = threading.Thread(target=serve_raw, args=(server, chunks, stop))
        thread.start()
        try:
            return deliver_to(tenant, url)
        finally:
            stop.set()
            thread.join()

    return raw


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SMTP ready\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
    ],
    ids=range(6),
)
def test_what_is_no_answer_is_a_failure(answer, raw):
    delivery = raw(answer)

    assert (delivery.attempts, delivery.response_status) == (1, None)
    assert delivery.error


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200",
        b"HTTP/1.1 200 OK\r\nRetry-After: \xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000,
    ],
    ids=range(7),
)
def test_only_the_status_of_an_answer_counts(answer, raw):
    delivery = raw(answer)

    assert (delivery.status, delivery.response_status) == ("delivered", 200)


def test_an_answer_that_drips_in_is_cut_off(raw, monkeypatch):
    monkeypatch.setattr(outbound, "TOTAL_SECONDS", 1)

    delivery = raw(b"HTTP/1.1 200 OK\r\n", b"X: y", ends=False)

    assert (delivery.attempts, delivery.error) == (1, ALIVE)


def test_a_body_without_end_does_not_hold_up_the_worker(raw, monkeypatch):
    monkeypatch.setattr(outbound, "TOTAL_SECONDS", 1)

    delivery = raw(b"HTTP/1.1 200 OK\r\n\r\n", b"x", ends=False)

    assert delivery.status == "delivered"


def test_nothing_of_an_answers_text_is_kept(raw):
    delivery = raw(b"HTTP/1.1 500 s3cret\r\n\r\ns3cret")

    assert "s3cret" not in str(NotificationDelivery.objects.values().get())
    assert delivery.response_status == 500
