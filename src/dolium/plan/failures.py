"""Every code that an error of Dolium's can have: what it means, whence it comes, what to do.  docs/reference/errors.md is made
of this table, and `dolium explain CODE` prints a page of it.  Pure."""


class Failure:
    """One code.

    means     in one sentence
    kind      the exception that carries it, in `dolium`
    fields    what that exception holds besides `message`, `hint` and `code`
    causes    what leads to it
    mends     what to do
    example   lines of a shell, or of Python where they begin with `>>>`; tests carry them out
    says      the first line of what the last of them says
    """

    __slots__ = ("means", "kind", "fields", "causes", "mends", "example", "says")

    def __init__(self, means: str, kind: str, fields: str, *, causes: "tuple[str, ...]", mends: "tuple[str, ...]",
                 example: "tuple[str, ...]", says: str) -> None:  # fmt: skip
        self.means = means
        self.kind = kind
        self.fields = fields
        self.causes = causes
        self.mends = mends
        self.example = example
        self.says = says


FAILURES = {
    "usage": Failure(
        "The command line or the call is wrong; nothing was tried.", "UsageError", "",
        causes=("a flag or a command that does not exist", "two flags that contradict each other", "a word too many or too few"),
        mends=("the hint names the nearest word that exists", "`dolium COMMAND --help` lists all flags"),
        example=("dolium run --memroy 64m @host true",),
        says="error: unknown flag `--memroy`",
    ),
    "spec": Failure(
        "A value is malformed: the flag or the key of the configuration is right, what stands there is not.", "SpecError",
        "path (where it stands), problem",
        causes=("a number with an unknown unit", "a path that must be absolute and is not",
                "a source of `--volume` that does not exist",
                "a seccomp profile with a word that is none"),
        mends=("the first line says what was expected and what was found",),
        example=("dolium run --memory 64q @host true",),
        says="error: --memory: expected a size, got `64q`",
    ),
    "not-found": Failure(
        "There is no container, image, root file system, user or check of that name.", "NotFound",
        "kind, name, similar (the nearest names that exist), several (ids that begin so)",
        causes=("a slip of the pen", "a container that was started with --rm and has ended",
                "a container of another user: each user has containers of its own, and root too"),
        mends=("`dolium ps -a` lists all of your containers, `dolium images` your images",),
        example=("dolium logs no-such-container",),
        says="error: no container `no-such-container`",
    ),
    "exists": Failure(
        "The name is taken.", "Exists", "kind, name",
        causes=("a container of that name, which may have ended long ago", "a network device `dolium0` that is not Dolium's"),
        mends=("`dolium rm NAME` forgets the old one, `--rm` lets the next one forget itself", "choose another `--name`"),
        example=("dolium run --network none --name twice @host true", "dolium run --network none --name twice @host true"),
        says="error: container `twice` exists already",
    ),
    "state": Failure(
        "The container is not in the state that the command needs, such as running.", "StateError", "name, status, wanted",
        causes=("`exec`, `kill` or `stop` of a container that has ended", "`rm` of one that runs"),
        mends=("`dolium ps -a` says how it stands", "`dolium start NAME` starts it again"),
        example=("dolium run --network none --name ended @host true", "dolium exec ended true"),
        says="error: container `ended` is exited, not running",
    ),
    "hook": Failure(
        "A hook of an OCI config failed: a program of the host that is told of a container.", "HookError",
        "why, path, problem, said",
        causes=("the program is not there, or may not be executed", "it ended with another exit code than 0, or by a signal",
                "it took longer than its `timeout`"),
        mends=("what it wrote stands in the error", "run it by hand, with what `dolium-oci state ID` prints on its input"),
        example=(
            "mkdir -p b/rootfs && dolium-oci spec -b b",
            "sed -i 's#\"terminal\": true#\"terminal\": false#' b/config.json",
            "sed -i 's#\"root\"#\"hooks\": {\"prestart\": [{\"path\": \"/bin/false\"}]}, \"root\"#' b/config.json",
            "dolium-oci --root state create -b b one",
        ),
        says="error: hooks.prestart[0]: `/bin/false` ended with exit code 1",
    ),
    "unsupported": Failure(
        "This host, or this user on it, cannot do what was asked. It is never done by half: a limit that cannot be enforced is an "
        "error.", "Unsupported", "feature, missing",
        causes=("a controller of cgroups that this user may not use", "something only root may do, such as a bridge",
                "a kernel that is too old, or was built without it", "an outer container that takes it away"),
        mends=("`dolium doctor` says which jobs can be done here, and gives the line that mends what cannot",
               "leave the flag out"),
        example=("echo '{\"defaultAction\": \"SCMP_ACT_ERRNO\"}' >nothing.json",
                 "dolium run --why-denied --security-opt seccomp=nothing.json @host true"),
        says="error: unsupported: --why-denied: this seccomp profile may refuse sendmsg(2), which takes the report out",
    ),
    "image": Failure(
        "A tarball, or an image, is malformed, damaged, or holds what leads out of it. Nothing of it is kept.",
        "ImageError", "image, problem, entry (the file in it, where one is to blame), action (what could not be done)",
        causes=("it was cut short while it was copied or downloaded", "it is the archive of an image, such as `docker save` makes",
                "names with `..`, hard links to what is not in it", "the disk has no room for what is in it"),
        mends=("copy or download it again", "`dolium run docker-archive:FILE` runs what `docker save` made",
               "`dolium image verify` says what is damaged in the store",
               "`dolium prune` makes room"),
        example=("echo hello >hello.tar.gz", "dolium run ./hello.tar.gz true"),
        says="error: cannot unpack `hello.tar.gz`: it is no tar archive",
    ),
    "registry": Failure(
        "A registry refuses, fails, sends what is wrong, or cannot be reached. What has come whole stays, and the next try goes on "
        "where this one was.",
        "RegistryError", "doing (what cannot be done), registry (its host), problem, status (of its answer, or 0)",
        causes=("the name is wrong, or the image is private and you are not logged in",
                "the machine is offline, or the host is not the registry that it was taken for",
                "the registry's certificate is signed by a CA that this host does not know", "it was asked too often (429)"),
        mends=("`dolium login HOST`", "put its CA into `/etc/docker/certs.d/HOST:PORT/ca.crt`",
               "`--plain-http` for one without TLS, or say so in `registries.toml`"),
        example=("dolium pull 127.0.0.1:9/alpine",),
        says="error: cannot pull 127.0.0.1:9/alpine:latest: 127.0.0.1:9: nothing listens there (connection refused)",
    ),
    "step": Failure(
        "The kernel refused a step of the plan. The second line says which, and which key of the configuration asked for it; what "
        "was made until then is gone. The exit code is 127 where the program was not found, 126 where it could not be run, else "
        "125.", "StepError",
        "step, index, total, call (the system call), errno, filename, why",
        causes=("the program or one of its files is not in the container (ENOENT), or not executable (EACCES)",
                "this host forbids it: an outer container, an LSM, a setting of the administrator's (EPERM)",
                "a limit is reached: namespaces, open files, processes, room (ENOSPC, EMFILE, EAGAIN)"),
        mends=("the hint, where there is one, is for this very step and errno",
               "`dolium explain` with the same words shows the plan",
               "`dolium doctor` finds what this host forbids"),
        example=("dolium run --network none @host no-such-program",),
        says="error: cannot exec no-such-program: execve(2): No such file or directory (ENOENT)",
    ),
    "command-failed": Failure(
        "A program ended with another exit code than 0, and the caller had asked for `check=True`. It is the program's failure, "
        "not Dolium's.", "CommandFailed", "argv, result",
        causes=("the program says why on its standard error, which is in `result.stderr`",),
        mends=("leave `check` out and look at `result.exit_code` and `result.ended_by`",),
        example=('>>> dolium.run(["false"], check=True)',),
        says="`false` failed: ",
    ),
    "command-timeout": Failure(
        "A program was killed at its time limit, and the caller had asked for `check=True`.", "CommandTimeout", "argv, result",
        causes=("the limit `timeout=` is too small for what the program does", "the program waits for something that never comes"),
        mends=("a larger `timeout=`", "`result.stdout` and `result.stderr` hold what it had printed by then"),
        example=('>>> dolium.run(["sleep", "9"], timeout=0.1, check=True)',),
        says="`sleep` failed: ",
    ),
    "error": Failure(
        "Anything else that keeps Dolium from going on.", "DoliumError", "",
        causes=("standard output cannot be written", "one of Dolium's own directories belongs to somebody else",
                "dolium-init or dolium-keep was killed", "a program of the host's, such as nft, failed"),
        mends=("the first line says what it was; `--debug` shows where",),
        example=("dolium --version >/dev/full",),
        says="error: cannot write to standard output: No space left on device",
    ),
}  # fmt: skip
"""Code -> what there is to say of it."""


def page(code: str) -> str:
    """All that there is to say of a code, for a terminal."""
    found = FAILURES[code]
    lines = [f"{code}: {found.means}", "", "what leads to it", *(f"  - {each}" for each in found.causes),
             "what to do", *(f"  - {each}" for each in found.mends), "for example", *(f"  {each}" for each in _shown(found)),
             f"in Python: dolium.{found.kind}" + (f", which has {found.fields}" if found.fields else "")]  # fmt: skip
    return "".join(f"{each}\n" for line in lines for each in (_folded(line) if line[2:] not in _shown(found) else [line]))


def _shown(found: Failure) -> "list[str]":
    return [*(each if each.startswith(">>>") else f"$ {each}" for each in found.example), f"{found.says}".rstrip()]


def _folded(line: str, width: int = 80) -> "list[str]":
    """A line in lines of that many columns, the later ones further in."""
    inner = " " * (len(line) - len(line.lstrip()) + 2 * line.lstrip().startswith("- "))
    found, rest = [], line
    while len(rest) > width and " " in rest[len(inner) + 1 : width]:
        at = rest.rindex(" ", len(inner) + 1, width)
        found.append(rest[:at])
        rest = inner + rest[at + 1 :]
    return [*found, rest]


def document() -> str:
    """docs/reference/errors.md, whole."""
    parts = [HEAD]
    for code, found in FAILURES.items():
        parts.append(f"## `{code}`\n\n{found.means}\n\nWhat leads to it:\n\n" + "".join(f"- {each}\n" for each in found.causes)
                     + "\nWhat to do:\n\n" + "".join(f"- {each}\n" for each in found.mends)
                     + "\nFor example:\n\n" + "".join(f"    {each}\n" for each in _shown(found))
                     + f"\nIn Python: `dolium.{found.kind}`"
                     + (f", which has {found.fields}" if found.fields else "") + ".\n")  # fmt: skip
    return "\n".join(parts)


HEAD = """\
# Errors, by code

Every error of Dolium's has a `code`, which stays the same from one version to the next; the words of its message may change.
The first line of an error is complete in itself; after it comes, where it was a step of the plan that failed, which one, and
where there is something to do about it, a hint. The exit code of `dolium` is 125 unless it says otherwise here.

    >>> try:
    ...     dolium.run(["true"], memory="64q")
    ... except dolium.DoliumError as error:
    ...     print(error.code)
    spec

`dolium explain CODE` prints one of these pages. This file is made from `src/dolium/plan/failures.py` by `make golden`.
"""
