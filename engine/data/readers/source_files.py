"""From what the user named to the bytes of a file, unpacked where it is gzip and read once from front to
back.

A path may be anywhere but among the home folder's own files; an upload resolves strictly inside the
uploads folder. Only regular files are opened. Memory does not grow with the file, and a gzip bomb is
refused.
"""

from __future__ import annotations

import codecs
import gzip
import os
import stat
import zlib
from pathlib import Path

from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.data.config import Source

# From what the user named to a file that may be read.
#
# A path may be anywhere on the engine's machine but among the files of the home folder that hold no data
# (its secrets, the store, logs, jobs); an upload resolves strictly inside the uploads folder, whatever its
# name says and whatever symbolic links lie there. Only regular files of a disk are opened: a device or a
# pipe would never end, and /proc/self/mem holds the engine's own memory.

SYSTEM_FOLDERS = ("/proc", "/sys")  # which call a memory or a switch a regular file


def locate_file(home: Home, source: Source) -> Path:
    """The file of a path or an upload. Raises DataError that names it where there is none to read."""
    path = _locate_upload(home, source.upload) if source.upload else _locate_path(home, source.path or "")
    try:
        mode = os.stat(path).st_mode
        if any(path.resolve().is_relative_to(folder) for folder in SYSTEM_FOLDERS):
            raise DataError(
                f"{path} is no file on a disk: the system makes it up while it is read.",
                fix="Copy what you need of it into a file first.",
                field="source",
            )
        if stat.S_ISDIR(mode):
            raise DataError(f"{path} is a folder.", fix="Name one file in it.", field="source")
        if not stat.S_ISREG(mode):
            raise DataError(
                f"{path} is not a regular file.", fix="Copy it into a file first.", field="source"
            )
        with open(path, "rb"):
            pass
    except OSError as error:
        raise make_read_error(path, error) from error
    return path


def make_read_error(path: Path, error: OSError) -> DataError:
    """The error of the operating system, in a sentence about the file."""
    if isinstance(error, FileNotFoundError):
        return DataError(
            f"There is no file {path} on the machine of the engine.", fix="Check the path.", field="source"
        )
    if isinstance(error, PermissionError):
        return DataError(
            f"{path} may not be read by the engine (permission denied).",
            fix="Give its user the right to read it, or upload a copy.",
            field="source",
        )
    return DataError(f"{path} can't be read ({error.strerror or error}).", field="source")


def _locate_path(home: Home, text: str) -> Path:
    path = Path(text).expanduser()
    if "\0" in text or not path.is_absolute():
        raise DataError(
            f"The path {text!r} is not absolute.",
            fix="Give it in full, from the root folder.",
            field="source",
        )
    if home.holds(path):
        raise DataError(
            f"{path} is one of Tunebench's own files, not a file of data.",
            fix="Name a file outside of its home folder, an upload, an export or the rows of a data set.",
            field="source",
        )
    return path


def _locate_upload(home: Home, name: str) -> Path:
    folder = home.uploads.resolve()
    if "\0" not in name:
        path = (folder / name).resolve()
        if path.parent == folder and Path(name).name == name:
            return path
    raise DataError(
        f"The upload {name!r} is not in the folder of uploads.", fix="Upload the file again.", field="source"
    )


# The bytes of a file, unpacked where it is gzip, read once from front to back.
#
# The first MiB stays at hand in `head`, from which everything about the file is recognised. Memory does
# not grow with the file. A gzip that unpacks to hundreds of times its size is refused: text packs ten-fold,
# rarely more than fifty-fold.

HEAD = 1024 * 1024
CHUNK = 1024 * 1024
MAX_RATIO = 200
RATIO_FROM = 256 * 1024 * 1024  # unpacked bytes before the ratio is looked at

# What people give that is no data set, by its first bytes.
FOREIGN_FORMATS = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "Unpack it, or save the sheet as CSV."),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it, or pack it with gzip."),
    (b"BZh", "compressed with bzip2", "Unpack it, or pack it with gzip."),
    (b"\xfd7zXZ\x00", "compressed with xz", "Unpack it, or pack it with gzip."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it first."),
    (b"%PDF", "a PDF", "Extract its text first."),
    (b"\xd0\xcf\x11\xe0", "an old Office document", "Save it as CSV."),
    (b"SQLite format 3\x00", "an SQLite database", "Export the table as CSV or Parquet."),
    (b"ARROW1", "an Arrow file", "Save it as Parquet."),
    (b"\x80\x04\x95", "a pickle, which could run code when it is read", "Save it as Parquet or JSONL."),
    (b"\x89PNG", "an image", "Give a file with text."),
    (b"\xff\xd8\xff", "an image", "Give a file with text."),
    (b"GIF8", "an image", "Give a file with text."),
)


class ByteStream:
    """Bytes of one file. Raises DataError where it is empty, foreign, broken gzip, or out of proportion."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._raw = open(path, "rb")  # noqa: SIM115 (open as long as the reader)
            self.size = path.stat().st_size
        except OSError as error:
            raise make_read_error(path, error) from error
        self.compressed = self._raw.peek(2)[:2] == b"\x1f\x8b"
        self._file = gzip.GzipFile(fileobj=self._raw) if self.compressed else self._raw
        self.unpacked = self._at = 0
        self.head = self.pull(HEAD)
        self.whole = len(self.head) < HEAD  # the head is all there is
        self._pending = self.head
        self._check()

    def _check(self) -> None:
        if not self.head:
            self.close()
            raise DataError(f"{self.path.name} is empty.", fix="Give a file with rows.", field="source")
        for magic, what, fix in FOREIGN_FORMATS:
            if self.head.startswith(magic):
                self.close()
                raise DataError(f"{self.path.name} is {what}.", fix=fix, field="source")

    def pull(self, size: int) -> bytes:
        """Up to `size` bytes, unpacked; fewer only at the end."""
        parts, missing = [], size
        try:
            while missing and (part := self._file.read(missing)):
                parts.append(part)
                missing -= len(part)
        except EOFError as error:
            raise DataError(
                f"{self.path.name} is cut off: its gzip ends in the middle.",
                fix="Copy or download it again.",
                field="source",
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{self.path.name} is broken gzip ({error}).", fix="Copy or pack it again.", field="source"
            ) from error
        except OSError as error:
            raise make_read_error(self.path, error) from error
        self.unpacked += size - missing
        self._at = min(self._raw.tell(), self.size)
        if self.compressed and self.unpacked > max(RATIO_FROM, MAX_RATIO * self._at):
            raise DataError(
                f"{self.path.name} unpacks to more than {MAX_RATIO} times its size.",
                fix="If it really holds that much text, unpack it and import the file.",
                field="source",
            )
        return b"".join(parts)

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        if self._pending:
            piece, self._pending = self._pending, b""
            return piece
        return self.pull(CHUNK)

    def position(self) -> int:
        """Bytes of the file, as it lies on the disk, that have been read."""
        return self._at

    def close(self) -> None:
        self._file.close()
        self._raw.close()


class DecodedStream:
    """A stream in UTF-16 or another wide encoding, given as UTF-8."""

    def __init__(self, stream: ByteStream, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._done = False

    def read(self) -> bytes:
        """The next piece as UTF-8; empty at the end. Raises DataError at bytes that do not decode."""
        text = ""
        while not text and not self._done:
            piece = self._stream.read()
            self._done = not piece
            try:
                text = self._decoder.decode(piece, final=self._done)
            except UnicodeError as error:
                raise DataError(
                    f"{self._stream.path.name} is not valid {self._encoding}: {error}.",
                    fix="Save it as UTF-8, or name its encoding.",
                    field="encoding",
                ) from error
        return text.encode("utf-8", "replace").removeprefix(codecs.BOM_UTF8)


def detect_encoding(head: bytes, whole: bool) -> str | None:
    """utf-8-sig, utf-16, utf-16-le, utf-16-be, utf-32, utf-8, cp1252, or None for bytes that are no text."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = head[:4096]
    if b"\0" in start:
        # Latin text in UTF-16 has a zero in every second byte; anything else with zeros is binary.
        even, odd = start[0::2].count(0), start[1::2].count(0)
        half = len(start) / 2
        if odd > 0.7 * half and even < 0.1 * half:
            return "utf-16-le"
        if even > 0.7 * half and odd < 0.1 * half:
            return "utf-16-be"
        if len(start) < 100 or start.count(0) > 0.01 * len(start):
            return None
    control = sum(start.count(byte) for byte in (*range(1, 9), *range(14, 27), *range(28, 32), 127))
    if control > max(8, 0.02 * len(start)):
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def check_encoding(name: str) -> str:
    """The name as the codec calls itself. Raises ConfigError for one that Python does not know."""
    try:
        codec = codecs.lookup(name)
        if "".encode(name) is not None and getattr(codec, "_is_text_encoding", True):
            return codec.name
    except (LookupError, ValueError):
        pass
    raise ConfigError(
        f"There is no text encoding {name!r}.", fix="Try utf-8, utf-16 or latin-1.", field="encoding"
    )
