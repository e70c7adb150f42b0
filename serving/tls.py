"""Certificates and keys: read, and found to belong together before a port is opened with them."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from keraship.errors import InvalidArgument
from keraship.serving.grpc_server import GrpcTls
from keraship.serving.text_proto import read_text_proto
from keraship.wire.messages import SSLConfig


def read_grpc_tls(path: str) -> GrpcTls:
    """What an SSLConfig file says, PEM inside; raises StatusError for a file that is none, or holds no pair."""
    message = read_text_proto(path, SSLConfig)
    tls = GrpcTls(
        message.server_key.encode(), message.server_cert.encode(), message.custom_ca.encode(), message.client_verify
    )
    _check(path, tls)
    return tls


def read_rest_tls(certificate: str, key: str, client_ca: str = "") -> ssl.SSLContext:
    """A server's context from PEM files; with client_ca, clients must show a certificate that it signed.

    Raises InvalidArgument for files that are not there, are no PEM, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError, ValueError) as error:
        raise InvalidArgument(
            f"expected a certificate and its key as PEM in {certificate} and {key}"
            f"{f', and a CA in {client_ca}' if client_ca else ''}; they are none: {error}"
        ) from error
    return context


def _check(path: str, tls: GrpcTls) -> None:
    """gRPC itself would say nothing, and refuse every connection."""
    with tempfile.TemporaryDirectory() as folder:  # ssl reads files alone
        files = {name: Path(folder, name) for name in ("server_key", "server_cert", "custom_ca")}
        for name, file in files.items():
            file.touch(mode=0o600)
            file.write_bytes(getattr(tls, name))
        try:
            read_rest_tls(
                str(files["server_cert"]), str(files["server_key"]), str(files["custom_ca"]) if tls.custom_ca else ""
            )
        except InvalidArgument as error:
            raise InvalidArgument(
                f"expected server_key and server_cert in {path} to be a key and its certificate, as PEM, and custom_ca "
                f"to be certificates; they are not: {error.__cause__}"
            ) from error
