"""Row embeddings: the mean of the static vectors of a row's tokens, normalized to length 1, computed offline.

The vectors are those of the package wordllama (256 dimensions). Its tokenizer never merges across words,
so each distinct word of a batch is tokenized once and a row is the sum over its words: the same vectors as
the package's own `embed`, an order of magnitude faster on long rows. Only the first `EMBEDDED_CHARACTERS`
characters of a row count. The label of a labeled row is left out, because it would reveal itself. A start
shared by all rows (an instruction before each of them) doesn't distinguish rows and is left out too.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from engine.data.signals.protocol import Progress
from store.core.errors import DataError
from store.core.home import Home
from store.core.job_folder import write_atomically
from store.data.filters import BASE

VERSION = 1  # version of the embedding method, part of the cache file's name
EMBEDDED_CHARACTERS = 2_000  # characters of a row that are embedded
DIMENSIONS = 256
BATCH = 16_384  # rows embedded at a time; their distinct words are tokenised once
MAX_CACHED_FILES = 8  # vector files in the cache; the oldest are deleted
MAX_SHARED_PARAGRAPHS = 3  # paragraphs that all rows may share


def load_row_vectors(home: Home, rows_path: Path, progress: Progress) -> np.ndarray:
    """Return float32 [rows, 256] in row order, read-only and memory-mapped from the cache.

    Rows without words are 0. Rows are those of `rows_path`, in a folder named by their fingerprint.
    """
    path = home.cache / "embeddings" / f"{rows_path.parent.name}-v{VERSION}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path, flush=False) as unfinished:
            _write(unfinished, rows_path, progress)
        files = sorted(path.parent.glob("*.npy"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files[MAX_CACHED_FILES:]:
            file.unlink(missing_ok=True)
    os.utime(path)
    vectors: np.ndarray = np.load(path, mmap_mode="r")
    return vectors


def _write(path: Path, rows_path: Path, progress: Progress) -> None:
    texts = read_row_texts(rows_path, EMBEDDED_CHARACTERS)
    total = len(texts)
    if not total:
        raise DataError("The data set has no rows to measure.", fix="Import a file that has rows.")
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (total, DIMENSIONS))
    for first in range(0, total, BATCH):
        progress(first, total, "rows", "Reading what the rows mean")
        vectors[first : first + BATCH] = embed(texts.slice(first, BATCH))
    progress(total, total, "rows", "Reading what the rows mean")
    vectors.flush()


def read_row_texts(rows_path: Path, first: int, *, prompts: bool = False) -> pa.ChunkedArray:
    """Return the first characters of the text by which every row is judged, in row order.

    That is the prompt of a labeled row, otherwise the whole row (with `prompts` the last question),
    without the start that all rows share. With `prompts`, a shared start of unlabeled rows is kept: there
    it is a template.
    """
    asked = "r.messages[-2].content" if prompts else "r.text"
    text = f"CASE WHEN r.label IS NOT NULL THEN {BASE['prompt']} ELSE coalesce({asked}, r.text) END"
    connection = duckdb.connect()
    try:
        begin = _find_shared_start(connection, rows_path, text, labelled_only=prompts)
        table = connection.sql(
            f"SELECT substr({text}, ?, ?) AS t FROM read_parquet(?) r ORDER BY r.row_id",
            params=[begin + 1, first, str(rows_path)],
        ).to_arrow_table()
    finally:
        connection.close()
    column: pa.ChunkedArray = table["t"].cast(pa.large_string())  # string is limited to 2 GiB
    return column


def _find_shared_start(connection: Any, rows_path: Path, text: str, *, labelled_only: bool) -> int:
    """Return the length in characters of the paragraphs that every row begins with."""
    begin = 0
    for _ in range(MAX_SHARED_PARAGRAPHS):
        leads = connection.execute(
            f"WITH t AS (SELECT substr({text}, ?, 20000) AS t, r.label AS label FROM read_parquet(?) r)"
            " SELECT min(split_part(t, chr(10) || chr(10), 1)), max(split_part(t, chr(10) || chr(10), 1)),"
            " bool_and(contains(t, chr(10) || chr(10))), count(*), bool_and(label IS NOT NULL) FROM t",
            [begin + 1, str(rows_path)],
        ).fetchall()
        low, high, all_longer, count, labelled = leads[0]
        if count < 2 or low != high or not all_longer or (labelled_only and not labelled):
            break
        begin += len(low) + 2
    return begin


def embed(texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return float32 [texts, 256]; a text without words is 0, all others have length 1."""
    column = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    words = pc.utf8_split_whitespace(pc.fill_null(column, ""))
    flat = words.flatten().dictionary_encode()
    starts = np.concatenate([[0], np.cumsum(pc.list_value_length(words).to_numpy(), dtype=np.int64)])
    size = len(flat.dictionary)
    indices = flat.indices.to_numpy(zero_copy_only=False)
    rows = sparse.csr_matrix((np.ones(len(indices), np.float32), indices, starts), (len(words), size))
    tokenizer, table = _load_model()
    tokens = rows @ _tokenise_words(tokenizer, flat.dictionary.to_pylist(), len(table))
    sums = np.asarray(tokens @ table, np.float32)  # after normalization, sum and mean are equal
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    means: np.ndarray = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    return means


def _tokenise_words(tokenizer: Any, words: list[str], vocabulary: int) -> sparse.csr_matrix:
    """Return the token counts of each word: float32 [words, vocabulary]."""
    size = 50_000  # words tokenized at a time
    ids = [
        coded.ids
        for first in range(0, len(words), size)
        for coded in tokenizer.encode_batch(words[first : first + size], add_special_tokens=False)
    ]
    starts = np.concatenate([[0], np.cumsum([len(word) for word in ids], dtype=np.int64)])
    flat = np.fromiter((token for word in ids for token in word), np.int32, starts[-1])
    return sparse.csr_matrix((np.ones(len(flat), np.float32), flat, starts), (len(words), vocabulary))


@cache
def _load_model() -> tuple[Any, np.ndarray]:
    """Load the tokenizer and its vectors, float32 [32000, 256]; takes half a second and 120 MiB."""
    import wordllama

    # The weights are part of the package; nothing is downloaded.
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    model.tokenizer.no_padding()
    model.tokenizer.no_truncation()
    return model.tokenizer, np.ascontiguousarray(model.embedding, np.float32)
