"""The page that `dolium run --help` and `dolium explain --help` print."""

from dolium.cli.flags import COMMANDS, Flags, groups


def help(command: "str" = "run") -> "str":
    """The page that `--help` prints, at most 80 columns wide."""
    fresh = Flags()
    page = [f"Usage: dolium {command} [FLAG...] ROOTFS [PROGRAM [ARGUMENT...]]", "", COMMANDS[command], "", _ROOTS]
    for title, rows in groups(command):
        page += ["", title]
        for flag in rows:
            names = f"-{flag.short}, --{flag.name}" if flag.short else f"    --{flag.name}"
            often = "..." if isinstance(getattr(fresh, flag.attribute, None), (list, dict)) else ""
            page.append(f"  {names} {flag.value}{often}".ljust(33) + " " + flag.text)
    return "\n".join([*page, "", _NOTES])


_ROOTS = """\
ROOTFS is an image (alpine, quay.io/org/app:1.2, an id; oci:DIR:TAG,
  oci-archive:FILE, docker-archive:FILE), or a directory or a tarball, written
  with `/`, `./` or `../` in front, or
  @host   this machine's own programs, read-only
  @venv   the same with the Python that runs Dolium and its packages"""

_NOTES = """\
A flag whose value ends in `...` may be given more than once.
--security-opt: seccomp=FILE, seccomp=unconfined, no-new-privileges=false,
  mask=PATH[:PATH...], unmask=PATH[:PATH...], unmask=ALL
NETWORK: bridge (an address of its own, to the host and beyond; what root gets),
  allow=HOST:PORT,... (the same, but it reaches only those: pypi.org:443,
  *.example.org:80-90, 10.0.0.0/8:*; names as well as addresses),
  none (`lo` alone; what others get), host (the host's), container:NAME (shares
  that container's), ns:FILE (a namespace, such as /run/netns/NAME)
SIZE: bytes, or with k, m, g, t (powers of 1024). TIME: seconds, or ms, s, m, h.

  dolium run --memory 64m --cpus 0.5 @host sh -c 'echo hello'
"""
