"""A chain of three certificates for 127.0.0.1, created at every start."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from botocore.httpsession import where
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

_LIFE: Final = timedelta(days=2)
_KEY_BITS: Final = 2048


class _Authority:
    def __init__(self, name: str, issuer: _Authority | None = None) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        self.name = _named(name)
        self.certificate = (issuer or self).sign(
            self.name, self.key, x509.BasicConstraints(True, None)
        )

    def sign(
        self,
        subject: x509.Name,
        key: rsa.RSAPrivateKey,
        *extensions: x509.ExtensionType,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + _LIFE)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
            )
        )
        for extension in extensions:
            builder = builder.add_extension(extension, isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def make_chain(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Create root, intermediate and leaf.

    Args:
        folder: Directory for the files.

    Returns:
        The TLS context of a server, and the file of root certificates that clients trust.
    """
    root = _Authority("bench root")
    intermediate = _Authority("bench intermediate", root)
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = intermediate.sign(_named("127.0.0.1"), key, x509.BasicConstraints(False, None), host)
    chain, trusted = folder / "chain.pem", folder / "root.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain.write_bytes(secret + _pem(leaf) + _pem(intermediate.certificate))
    # Appended to the usual roots, because loading them is part of the cost of a TLS client.
    trusted.write_bytes(Path(where()).read_bytes() + _pem(root.certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context, trusted


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
