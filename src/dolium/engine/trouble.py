"""What goes wrong on the way to a host, in words."""

import socket
import ssl
from http.client import HTTPException, RemoteDisconnected


class Trouble(Exception):
    """A host could not be reached, or broke off.  `again`: it may work the next time.  Users see a RegistryError."""

    def __init__(self, host: str, problem: str, *, hint: str = "", again: bool = False) -> None:
        super().__init__(f"{host}: {problem}")
        self.host = host
        self.problem = problem
        self.hint = hint
        self.again = again


class NoTLS(Trouble):
    """It answered in plain HTTP, or not in TLS at all."""

    def __init__(self, host: str) -> None:
        super().__init__(host, "it does not speak TLS",
                         hint=f"if it is a registry, and to be trusted without: --plain-http, or {setting(host)}")


def setting(host: str) -> str:
    """What to write so that a host may be spoken to without TLS."""
    return f'in registries.toml [registry."{host}"] plain-http = true'


def of_certificate(error: ssl.SSLError, host: str) -> Trouble:
    """What TLS has to say against a host."""
    said = getattr(error, "verify_message", "") or (error.reason or str(error)).replace("_", " ").lower()
    if getattr(error, "verify_code", 0) in (18, 19, 20, 21):  # X509_V_ERR_*: nobody whom we know has signed it
        return Trouble(host, f"its certificate is signed by nobody whom this host trusts ({said})",
                       hint=f"put its CA into /etc/docker/certs.d/{host}/ca.crt, or --tls-verify=false")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Trouble(host, f"its certificate is not good: {said}", hint="is it the right host? Else --tls-verify=false")
    return Trouble(host, f"TLS failed: {said}", again=True)


def explained(error: Exception, host: str) -> Trouble:
    """What an error of socket, ssl or http.client means."""
    if isinstance(error, socket.gaierror):
        if error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL):
            return Trouble(host, "its name cannot be looked up", hint="is this machine online?")
        return Trouble(host, "there is no such host", hint="is the name spelt right, and this machine online?")
    if isinstance(error, TimeoutError):
        return Trouble(host, "it does not answer in time", again=True)
    if isinstance(error, ConnectionRefusedError):
        return Trouble(host, "nothing listens there (connection refused)", hint="does the registry run, and is it this port?")
    if isinstance(error, ssl.SSLError):
        return of_certificate(error, host)
    if isinstance(error, RemoteDisconnected):
        return Trouble(host, "it closed the connection without an answer", again=True)
    if isinstance(error, HTTPException):
        return Trouble(host, f"its answer is not HTTP ({type(error).__name__})", again=True)
    if isinstance(error, OSError):
        return Trouble(host, (error.strerror or str(error)).lower(), again=isinstance(error, ConnectionError))
    return Trouble(host, f"its answer makes no sense: {error}")
