"""The map of meanings on planted data: clusters apart, names that tell, the same on every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.data.signals import map_signals, topic_map
from engine.data.signals.embeddings import embed, load_row_vectors, read_row_texts
from store.core.home import Home
from store.data.config import ProfileConfig
from tests.unit.data_job import import_file, make_job, silent
from tests.unit.measured import THEMES, themed


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path, np.ndarray]:
    home = Home(tmp_path_factory.mktemp("home")).create()
    texts, theme = themed(150)
    file = tmp_path_factory.mktemp("given") / "rows.txt"
    file.write_text("\n".join(texts))
    result = import_file(home, file).result
    return home, home.rows(result["fingerprint"]), theme


def measured(home: Home, path: Path) -> tuple[pa.Table, dict[str, dict[str, Any]]]:
    config = ProfileConfig(dataset="rows", group="map")
    return map_signals.compute(make_job(home, "profile", {}), config, path, silent)


def test_vectors_are_those_of_the_package_and_of_length_one() -> None:
    import wordllama

    texts = ["How do I bake bread?", "The  moon orbits the Earth.", "naïve 日本語 text"]
    package = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    vectors = embed(pa.array([*texts, "", None]))
    assert vectors.dtype == np.float32
    assert np.allclose(vectors[[0, 2]], package.embed([texts[0], texts[2]], norm=True), atol=1e-5)
    assert np.allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-6)
    assert not vectors[3:].any()


def test_planted_clusters_lie_apart_and_are_named_by_their_words(imported: Any) -> None:
    home, path, theme = imported
    table, _ = measured(home, path)
    names = np.array(table["cluster"].to_pylist())
    for name in set(names):
        shares = np.bincount(theme[names == name], minlength=3) / (names == name).sum()
        assert shares.max() > 0.95, name
        words = " ".join(list(THEMES.values())[int(shares.argmax())])
        assert all(word in words for word in name.split(" (")[0].split(", ")), name
    places = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(len(places))
    assert (theme[distances.argmin(axis=1)] == theme).mean() > 0.95


def test_the_same_rows_give_the_same_map(imported: Any) -> None:
    home, path, _ = imported
    first, figures = measured(home, path)
    for file in (home.cache / "embeddings").iterdir():
        file.unlink()
    again, figures_again = measured(home, path)
    assert first.equals(again)
    assert figures == figures_again


def test_rows_beyond_the_sample_are_placed_near_their_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_map, "LAYOUT_ROWS", 60)
    texts, theme = themed(200)
    points = topic_map.compute_components(embed(pa.array([*texts, texts[0]])), silent)
    places = topic_map.compute_layout(points, silent)
    assert places.shape == (201, 2)
    assert np.allclose(places[0], places[-1], atol=1e-3)  # equal rows share a place
    centers = np.stack([places[:200][theme == t].mean(axis=0) for t in range(3)])
    nearest = np.linalg.norm(places[:200, None] - centers, axis=2).argmin(axis=1)
    assert (nearest == theme).mean() > 0.9


@pytest.mark.parametrize("texts", [["one row"], ["same"] * 9, ["", " ", "…"] * 4, ["a", "b"]])
def test_few_equal_or_wordless_rows_have_a_place_and_a_topic(tmp_path: Path, texts: list[str]) -> None:
    vectors = embed(pa.array(texts))
    points = topic_map.compute_components(vectors, silent)
    labels = topic_map.cluster(points)
    names = topic_map.name_topics(labels, texts)
    assert np.isfinite(topic_map.compute_layout(points, silent)).all()
    assert len(set(names)) == len(names) == labels.max() + 1
    assert all(names)


def test_a_topic_with_the_words_of_another_gets_a_name_of_its_own() -> None:
    names = topic_map.name_topics(
        np.array([0, 0, 1, 1]), ["red apple pie", "red apple pie", "red apple pie", "red apple pie"]
    )
    assert len(set(names)) == 2


def test_a_template_is_the_longest_start_that_enough_rows_share() -> None:
    prompts = [f"Write a poem about {i} things" for i in range(6)]
    prompts += ["write A poem for me please"] + [f"Unlike others {i} here" for i in range(20)] + [None, ""]
    templates = map_signals.find_templates(prompts)
    assert templates[:6] == ["Write a poem about"] * 6
    assert templates[6] == "Write a poem"
    assert set(templates[7:]) == {None}
    assert map_signals.find_templates(prompts[:4]) == [None] * 4


def test_labels_and_what_all_rows_begin_with_are_left_out(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"text {i},secret{i % 2}\n" for i in range(20)))
    result = import_file(
        home, file, format="text_label", columns={"text": "text", "label": "label"}, instruction="Sort it."
    ).result
    path = home.rows(result["fingerprint"])
    assert read_row_texts(path, 100).to_pylist() == [f"text {i}" for i in range(20)]
    assert read_row_texts(path, 3, prompts=True).to_pylist() == ["tex"] * 20


def test_vectors_are_made_once_a_fingerprint(imported: Any) -> None:
    home, path, _ = imported
    load_row_vectors(home, path, silent)
    calls: list[Any] = []
    vectors = load_row_vectors(home, path, lambda *arguments: calls.append(arguments))
    assert not calls
    assert vectors.shape == (150, 256)
    with pytest.raises(ValueError, match="read-only"):
        vectors[0] = 1
