"""File format of archives: a zip of a few files with known names, each with its checksum in the manifest, and
a seal of the manifest, as a whole and by field.

An archive may be hand-made: names never become paths, sizes are counted during unpacking, and any file
that differs from the manifest causes the whole archive to be rejected. The seal contains no secret:
fingerprints are compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from store.archives.config import FORMAT, VERSION, ManifestDocument, SealDocument
from store.archives.schemas import BundleManifest, BundleSeal, FieldDifference
from store.core.documents import as_json
from store.core.errors import ConfigError, DataError
from store.core.home import SPARE_BYTES
from store.core.model_schemas import VersionFile

MAX_SHOWN_CHARACTERS = 60  # characters
MISSING = "missing"
DIGEST = 16  # hexadecimal digits of a field's checksum


def iterate_leaves(document: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each leaf value with its path: config.learning_rate, figures[2].value."""
    if isinstance(document, Mapping) and document:
        for key, value in document.items():
            yield from iterate_leaves(value, f"{at}.{key}" if at else str(key))
    elif isinstance(document, list) and document:
        for place, value in enumerate(document):
            yield from iterate_leaves(value, f"{at}[{place}]")
    else:
        yield at, document


def compute_digests(document: Any) -> dict[str, str]:
    """Compute a short checksum of each field, which identifies what was changed, but proves nothing by
    itself.
    """
    return {
        path: hashlib.sha256(_encode_json(value)).hexdigest()[:DIGEST]
        for path, value in iterate_leaves(document)
    }


def _encode_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True, sort_keys=True).encode()


def compare_documents(bundle: Any, here: Any) -> list[FieldDifference]:
    """Return the fields that differ between a bundle's document and the local one."""
    theirs, ours = dict(iterate_leaves(bundle)), dict(iterate_leaves(here))
    return [
        FieldDifference(field=path, bundle=_describe_value(theirs, path), here=_describe_value(ours, path))
        for path in dict.fromkeys([*ours, *theirs])
        if path not in theirs or path not in ours or _encode_json(theirs[path]) != _encode_json(ours[path])
    ]


def _describe_value(values: Mapping[str, Any], path: str) -> str:
    return format_value(values[path]) if path in values else MISSING


def format_value(value: Any) -> str:
    """Format a value on one line, truncated if it is long."""
    text = " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


# Seal of a bundle: checksums of its manifest, as a whole and by field, and the fingerprint of everything.
#
# The manifest has the checksums of all other files, and the seal that of the manifest: any single change is
# detected and named. There is no secret in it: recomputing all checksums creates a different bundle, with
# another fingerprint. So two people compare fingerprints, and an installation that has the run compares it.

SEAL = "seal.json"
SEAL_BYTES = 64 * 2**20
MAX_NAMED = 5  # fields listed individually
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: unambiguous when read out
GROUPS, GROUP = 4, 4  # of letters: 80 bits, too many to find a second bundle


def encode_manifest(manifest: BundleManifest) -> bytes:
    """Encode the manifest as written to the file."""
    return json.dumps(manifest, ensure_ascii=False, indent=1, default=as_json).encode()


def write_seal(manifest: bytes) -> bytes:
    """Return the seal of a newly written manifest."""
    seal = BundleSeal(
        manifest=hashlib.sha256(manifest).hexdigest(),
        fields=compute_digests(json.loads(manifest)),
    )
    return json.dumps(seal, ensure_ascii=False, indent=1, default=as_json).encode()


def compute_fingerprint(manifest: bytes) -> str:
    """Compute the bundle's fingerprint, to be compared by voice or mail: K7QF-2M9D-0RXA-T41C."""
    number = int.from_bytes(hashlib.sha256(manifest).digest()[: GROUPS * GROUP * 5 // 8])
    letters = [LETTERS[number >> 5 * place & 31] for place in reversed(range(GROUPS * GROUP))]
    return "-".join("".join(letters[i : i + GROUP]) for i in range(0, len(letters), GROUP))


def check_seal(manifest: bytes, seal: bytes) -> str:
    """Return what was changed in manifest or seal since they were written; empty if nothing was."""
    try:
        stated = SealDocument.parse(json.loads(seal))
    except (ValueError, RecursionError, ConfigError):
        return f"its {SEAL} is invalid: it was modified after the bundle was created"
    try:
        document: Any = json.loads(manifest)
        present = compute_digests(document)
    except (ValueError, RecursionError):
        return "its manifest is not valid JSON"
    paths = [p for p in dict.fromkeys([*stated.fields, *present]) if stated.fields.get(p) != present.get(p)]
    if hashlib.sha256(manifest).hexdigest() == stated.manifest:
        return (
            f"its {SEAL} was modified after the bundle was created: {_describe_fields(paths, document)}"
            if paths
            else ""
        )
    if paths:
        return (
            "its manifest.json was modified after the bundle was created:"
            f" {_describe_fields(paths, document)}"
        )
    return (
        f"its manifest.json or its {SEAL} was modified after the bundle was created, though no manifest"
        " field differs"
    )


def _describe_fields(paths: list[str], document: Any) -> str:
    """Describe fields as "config.learning_rate is 0.5"."""
    values = dict(iterate_leaves(document))
    parts = []
    for path in paths[:MAX_NAMED]:
        value = format_value(values[path]) if path in values else MISSING
        parts.append(f"{path[:120]!r} is {value!r}")
    more = len(paths) - MAX_NAMED
    return ", ".join(parts) + (f" and {more:,} more" if more > 0 else "")


# Sizes are checked before anything is unpacked, and counted during unpacking.

MANIFEST, CARD, SPLIT, LOSSES = "manifest.json", "README.md", "split.parquet", "row_losses.parquet"
ROWS, SKIPPED, FATES = "rows.parquet", "skipped.parquet", "fates.parquet"
NAMES = frozenset({MANIFEST, SEAL, CARD, SPLIT, LOSSES, ROWS, SKIPPED, FATES})
NEEDED = (MANIFEST, SPLIT, LOSSES)  # and the seal, if the manifest has this version
UNLISTED = {MANIFEST, SEAL}  # not in the manifest's list of files
MANIFEST_BYTES = 32 * 2**20
WHOLE_BYTES = 32 * 2**30  # unpacked
DIRECTORY_BYTES = 16 * 2**10  # the list of files, which is read as a whole
MAX_RATIO = 200  # unpacked size over packed size, above a megabyte
MAX_VALUES_PER_BYTE = 100  # in a Parquet file: its values determine the memory needed
PACKED_BY = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks others in steps of unlimited size
BLOCK = 2**20
RETRY_FIX = "Request the bundle again, or recreate it with: tunebench bundle RUN"


def compute_checksum(path: Path, name: str = "") -> VersionFile:
    """Return a file's name, or the given one, with its size and checksum."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return VersionFile(path=name or path.name, bytes=path.stat().st_size, sha256=digest)


def write_archive(target: Path, manifest: BundleManifest, files: Mapping[str, Path]) -> str:
    """Write the bundle and return its fingerprint. It contains `files` by their names in it, the manifest
    with their checksums, and the seal of the manifest.
    """
    text = encode_manifest(manifest)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        archive.writestr(MANIFEST, text)
        archive.writestr(SEAL, write_seal(text))
        for name, path in files.items():
            stored = path.suffix == ".parquet"  # already compressed
            archive.write(path, name, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
    return compute_fingerprint(text)


def unpack(bundle: Path, folder: Path) -> ManifestDocument:
    """Check the bundle and extract its files into the empty `folder`. Raises DataError with the reason."""
    try:
        _check_directory(bundle)
        with zipfile.ZipFile(bundle) as archive:
            entries = _list_entries(archive, bundle, folder)
            text = archive.read(entries[MANIFEST])
            _check_version(text, bundle)
            if SEAL not in entries:
                raise _build_error(bundle, f"{SEAL} is missing: its manifest can't be verified")
            if why := check_seal(text, archive.read(entries[SEAL])):
                raise _build_error(bundle, why)
            manifest = _parse_manifest(text, bundle)
            _check_listed(entries, manifest, bundle)
            sums = {listed.path: listed.sha256 for listed in manifest.files}
            for name in sorted({*entries} - UNLISTED):
                _extract_entry(archive, entries[name], sums[name], folder / name)
            (folder / MANIFEST).write_bytes(text)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        struct.error,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise _build_error(bundle, f"not a complete zip file ({reason})") from error
    return manifest


def _check_directory(bundle: Path) -> None:
    """Reject a long list of files before it is read into memory."""
    size = bundle.stat().st_size
    with open(bundle, "rb") as file:
        file.seek(max(0, size - 66_000))
        tail = file.read()
        end = tail.rfind(b"PK\5\6")
        if end < 0 or len(tail) < end + 22:
            raise _build_error(bundle, "not a zip file")
        count, length = struct.unpack("<HI", tail[end + 10 : end + 16])
        if end >= 20 and tail[end - 20 : end - 16] == b"PK\6\7":  # over 4 GiB: sizes in a larger record
            (place,) = struct.unpack("<Q", tail[end - 12 : end - 4])
            file.seek(min(place, size))
            record = file.read(56)
            # zipfile reads the record before the locator, wherever the locator points
            if record[:4] != b"PK\6\6" or len(record) < 56 or place != size - len(tail) + end - 20 - 56:
                raise _build_error(bundle, "not a complete zip file")
            count, length = struct.unpack("<QQ", record[32:48])
    if length > DIRECTORY_BYTES or count > len(NAMES):
        raise _build_error(bundle, f"it contains {count:,} files; a bundle has at most {len(NAMES)}")


def _list_entries(archive: zipfile.ZipFile, bundle: Path, folder: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files by name. Raises DataError for an unexpected or duplicate name, and for sizes that
    should not be unpacked.
    """
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.orig_filename
        if name not in NAMES:
            raise _build_error(bundle, f"it contains an unexpected file {name[:80]!r}")
        if name in entries:
            raise _build_error(bundle, f"it contains the file {name!r} twice")
        if entry.flag_bits & 1:
            raise _build_error(bundle, f"its file {name!r} is encrypted")
        if entry.compress_type not in PACKED_BY:
            raise _build_error(bundle, f"its file {name!r} uses an unsupported compression method")
        if entry.file_size > max(BLOCK, MAX_RATIO * entry.compress_size):
            sizes = f"from {entry.compress_size:,} to {entry.file_size:,} bytes"
            raise _build_error(bundle, f"its file {name!r} would expand {sizes}")
        entries[name] = entry
    _check_needed(entries, bundle)
    whole = sum(entry.file_size for entry in entries.values())
    room = shutil.disk_usage(folder).free - SPARE_BYTES
    if whole > WHOLE_BYTES:
        raise _build_error(
            bundle,
            f"its unpacked size of {whole / 2**30:,.1f} GiB exceeds the limit of"
            f" {WHOLE_BYTES / 2**30:.0f} GiB",
        )
    if whole > room:
        raise DataError(
            f"The bundle {bundle.name} requires {whole / 2**20:,.0f} MiB of disk space;"
            f" {room / 2**20:,.0f} MiB are free.",
            fix="Free up disk space and open the bundle again.",
            field="bundle",
        )
    return entries


def _check_needed(entries: Mapping[str, zipfile.ZipInfo], bundle: Path) -> None:
    """Check that the required files exist, and that those read as a whole are small enough."""
    for name in NEEDED:
        if name not in entries:
            raise _build_error(bundle, f"{name} is missing")
    for name, most in ((MANIFEST, MANIFEST_BYTES), (SEAL, SEAL_BYTES)):
        if name in entries and entries[name].file_size > most:
            raise _build_error(bundle, f"its {name} exceeds {most / 2**20:.0f} MiB")


def _check_version(text: bytes, bundle: Path) -> None:
    """Check the manifest's version before anything else, as other versions may have other files."""
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _build_error(bundle, "its manifest is not valid JSON") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _build_error(bundle, f"its manifest does not have the format {FORMAT}")
    if document.get("version") != VERSION:
        older = document.get("version") == 1
        raise DataError(
            f"Unsupported version {str(document.get('version'))[:20]} of the bundle {bundle.name}; this"
            f" Tunebench supports version {VERSION}.",
            fix=f"Its manifest has no seal. {RETRY_FIX}." if older else "Update Tunebench.",
            field="bundle",
        )


def _parse_manifest(text: bytes, bundle: Path) -> ManifestDocument:
    try:
        return ManifestDocument.parse(json.loads(text))
    except ConfigError as error:
        raise _build_error(bundle, f"its manifest is invalid: {error.message}") from error


def _check_listed(entries: Mapping[str, zipfile.ZipInfo], manifest: ManifestDocument, bundle: Path) -> None:
    listed = {file.path: file for file in manifest.files}
    for name in sorted({*entries, *listed} - UNLISTED):
        if name not in listed:
            raise _build_error(bundle, f"its file {name} is not listed in the manifest")
        if name not in entries:
            raise _build_error(bundle, f"the file {name[:80]!r} listed in the manifest is missing")
        if entries[name].file_size != listed[name].bytes:
            raise _build_error(bundle, f"the size of {name} does not match the manifest")


def _extract_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, sha256: str, path: Path) -> None:
    digest, left = hashlib.sha256(), entry.file_size
    with archive.open(entry) as source, open(path, "xb") as target:
        while block := source.read(BLOCK):
            left -= len(block)
            if left < 0:  # zipfile stops at the declared size; this enforces it
                raise zipfile.BadZipFile(f"{entry.filename} is larger than declared")
            digest.update(block)
            target.write(block)
    if left or digest.hexdigest() != sha256:
        raise zipfile.BadZipFile(f"the checksum of {entry.filename} does not match the manifest")


def open_parquet(file: Path, rows: int | None = None) -> pq.ParquetFile:
    """Open an unpacked Parquet file with at most `rows` rows, without reading it.

    Raises DataError if it is not a Parquet file, or would need more memory than a file of its size should:
    constant values take no space in it.
    """
    try:
        opened = pq.ParquetFile(file)
        footer = opened.metadata
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        chunks = [group.column(place) for group in groups for place in range(group.num_columns)]
        values = sum(chunk.num_values for chunk in chunks)
        unpacked = sum(chunk.total_uncompressed_size for chunk in chunks)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _build_error(file, "not a Parquet file") from error
    size = file.stat().st_size
    if rows is not None and footer.num_rows > rows:
        raise _build_error(file, f"it has {footer.num_rows:,} rows instead of {rows:,}")
    if max(values, footer.num_rows) > max(BLOCK, MAX_VALUES_PER_BYTE * size):
        raise _build_error(
            file, f"it would expand from {size:,} bytes to {max(values, footer.num_rows):,} values"
        )
    if unpacked > max(BLOCK, MAX_RATIO * size):
        raise _build_error(file, f"it would expand from {size:,} to {unpacked:,} bytes")
    return opened


def publish(file: Path, folder: Path, stem: str, suffix: str) -> Path:
    """Link the file into `folder` under an unused name."""
    folder.mkdir(exist_ok=True)
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())
    number, path = 1, folder / f"{stem}{suffix}"
    while True:
        try:
            os.link(file, path)
            return path
        except FileExistsError:
            number += 1
            path = folder / f"{stem}-{number}{suffix}"


def _build_error(bundle: Path, why: str) -> DataError:
    return DataError(f"{bundle.name} can't be opened: {why}.", fix=RETRY_FIX, field="bundle")
