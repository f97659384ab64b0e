"""Remove what a container wrote, whatever it is: deep, without rights, full of links."""

import os

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def tree(path: "str | bytes", directory: "int | None" = None) -> None:
    """Remove a directory that nothing runs in, by descriptors, with one open at a time however deep it is: directories
    further down are first moved to the top.  `path` is relative to the open `directory`, if that is given.  Raises OSError."""
    try:
        top = os.open(path, DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        return
    try:
        waiting, moved = [], 0
        for name in os.listdir(top):
            if not _unlink(name, top):
                waiting.append(name)
        while waiting:
            name = waiting.pop()
            below = _enter(name, top)
            try:
                for each in os.listdir(below):
                    if _unlink(each, below):
                        continue
                    os.close(_enter(each, below))  # moving it changes its `..`, which takes rights on it
                    while os.access(f".dolium-{moved}", os.F_OK, dir_fd=top, follow_symlinks=False):
                        moved += 1
                    os.rename(each, f".dolium-{moved}", src_dir_fd=below, dst_dir_fd=top)
                    waiting.append(f".dolium-{moved}")
                    moved += 1
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=directory)


def _unlink(name: str, directory: int) -> bool:
    """Whether it is gone now; False: it is a directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    return True


def _enter(name: str, directory: int) -> int:
    try:
        fd = os.open(name, DIRECTORY, dir_fd=directory)
        if os.access(".", os.R_OK | os.W_OK | os.X_OK, dir_fd=fd):
            return fd
        os.fchmod(fd, 0o700)
        return fd
    except PermissionError:  # overlayfs leaves its `work` so
        os.chmod(name, 0o700, dir_fd=directory)
        return os.open(name, DIRECTORY, dir_fd=directory)
