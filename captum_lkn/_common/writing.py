"""Files that are written whole or not at all, and checks that they can be, before long work."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["check_writable", "replacing"]

_ADVICE: Final = {
    errno.ENOSPC: "Make room, or give another folder",
    errno.EDQUOT: "Make room, or give another folder",
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f), or give another folder",
}


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Replace the content of a file in one atomic step.

    The content goes to a temporary file beside the target, which then takes the target's name. Readers find the old
    file or the new one, also while others write it; a write that fails or is interrupted leaves the old one, and
    nothing else. A symbolic link stays a link: the file that it points to is replaced. A file that is replaced keeps
    its permissions, those of a new one follow the umask.

    Args:
        path: The file.

    Yields:
        The temporary file, empty, whose content is to be written inside ``with``.

    Raises:
        OSError: The file cannot be written, such as on a full disk. The error names it; its class and `errno` are those
            of the system. One about another file comes as it is.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/it.txt") as file:
        ...         _ = file.write_text("all of it")
        ...     Path(folder, "it.txt").read_text()
        'all of it'
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        # Created with no more rights than the old file, so that nobody else can read it meanwhile.
        rights = 0o666 if mode is None else mode | stat.S_IWUSR
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, rights))
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())  # otherwise a crash could leave the new name on an empty file
        if mode is not None:
            temporary.chmod(mode)
        os.replace(temporary, target)
    except BaseException as error:  # also Ctrl-C
        with contextlib.suppress(OSError):
            temporary.unlink()
        own = (None, temporary, target, str(temporary), str(target))  # the writer may have failed at another file
        if isinstance(error, OSError) and error.errno is not None and error.filename in own:
            raise _explained(error, path) from error
        raise


def _explained(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """Return an error of the system with the name of the file, and what to do."""
    kept = ". The file that was there is kept" if os.path.exists(path) else ""
    advice = _ADVICE.get(error.errno or 0, "Give another folder")
    reason = (error.strerror or "").lower()
    explained = type(error)(f"cannot write {os.fspath(path)!r}: {reason}{kept}. {advice}")
    explained.errno = error.errno
    return explained


def check_writable(path: Path) -> None:
    """Check that a file can be written, before long work.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: The folder does not exist.
        IsADirectoryError: The path is a folder.
        PermissionError: The file or its folder may not be written to.
        OSError: The name is too long.
    """
    own = Path(os.path.realpath(path)).parent  # of the file that a link leads to, which is replaced itself
    for folder in (path.parent, own):
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"cannot write {str(path)!r}: there is no folder {str(folder)!r}. Create it first")
    if os.path.isdir(path):
        raise IsADirectoryError(f"cannot write to {str(path)!r}, which is a folder. Give another name")
    try:
        there = bool(path.stat())
    except FileNotFoundError:
        there = False
    except OSError as error:
        raise OSError(f"cannot write {path.name!r}: {(error.strerror or '').lower()}. Give another name") from error
    if there and not os.access(path, os.W_OK):
        raise PermissionError(f"cannot write {str(path)!r}, which is read-only. Give another name or folder")
    if not os.access(own, os.W_OK):
        raise PermissionError(f"cannot write {str(path)!r}: its folder is read-only. Give another folder")
