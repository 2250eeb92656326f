"""Retrieval: exact, deterministic, refused where it can't be; its measures against scikit-learn and by hand."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.metrics import average_precision_score, ndcg_score
from sklearn.neighbors import NearestNeighbors

from aesthemo_lib.models.appearance import MEAN, Appearance
from aesthemo_lib.models.inference import predict_logits
from aesthemo_lib.tasks import OASIS_TASKS, PATENT_TASKS
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import prepare
from aesthemo_studies import comparisons, protocol as studies
from aesthemo_studies.__main__ import main
from aesthemo_studies.retrieval import study as retrieval_study
from aesthemo_studies.retrieval.gallery import (
    Gallery,
    Space,
    class_map,
    meant,
    measures,
    nearest,
    search_measures,
    takes,
)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def gallery(features) -> Gallery:
    rng, space = np.random.default_rng(1), Space.fit(features, width=6)
    probabilities = {t.name: rng.dirichlet(np.ones(len(t.classes)), 200) for t in OASIS_TASKS}
    names, groups = tuple(f"{i} é.jpg" for i in range(200)), (np.arange(200) // 4).astype(str)
    return Gallery(OASIS_TASKS, names, groups, space(features), probabilities, space)


def test_the_space_is_standardised_pca_on_the_sphere(features):
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler, normalize

    expected = normalize(PCA(6).fit_transform(StandardScaler().fit_transform(features.astype(np.float64))))
    found = Space.fit(features, width=6)(features)
    assert np.allclose(found @ found.T, expected @ expected.T, atol=1e-4)  # but for the axes' signs


def test_search_is_exact_and_leaves_the_own_series_out(gallery, features):
    rows, scores = gallery.search(features[:70], k=5)
    space = gallery.space(features)
    distance, expected = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(space).kneighbors(space[:70])
    assert np.array_equal(rows, expected) and (rows[:, 0] == np.arange(70)).all()
    assert np.allclose(scores, 1 - distance**2 / 4, atol=1e-4)  # of unit vectors |q-x|^2 = 2 - 2 cos
    others, _ = gallery.search(features[:70], k=200, without=gallery.groups[:70])
    assert (others[:, -4:] == -1).all() and (np.sort(others[:, :196]) >= 0).all()
    assert all(gallery.groups[i] not in gallery.groups[row[:196]] for i, row in enumerate(others))


def test_classes_and_photo_and_class(gallery, features):
    p = gallery.probabilities
    rows, scores = gallery.search(condition="positive_calm and high", k=7)
    both = p["emotion"][:, 2] * p["aesthetics"][:, 1]
    assert np.array_equal(rows[0], np.argsort(-both)[:7]) and scores[0] == pytest.approx(np.sort(both)[::-1][:7])
    assert np.array_equal(gallery.search(condition="positive and calm, and beautiful", k=7)[0], rows)
    rows, _ = gallery.search(features[:3], "aroused", k=3)
    cosine = gallery.space(features[:3]) @ gallery.vectors.T
    expected = (1 + cosine) / 2 * p["emotion"][:, [1, 3]].sum(axis=1)
    assert np.array_equal(rows, np.argsort(-expected, axis=1)[:, :3])
    assert {name: list(np.flatnonzero(mask)) for name, mask in meant("awe", PATENT_TASKS).items()} == {"emotion": [1]}


def test_ties_are_broken_by_the_order_of_the_gallery():
    scores = np.float32([[0, 2, 1, 2, 1, 1, 3], [5, 5, 5, 5, 5, 5, 5]])
    assert nearest(scores, 4).tolist() == [[6, 1, 3, 2], [0, 1, 2, 3]]
    assert nearest(scores, 7).tolist() == [[6, 1, 3, 2, 4, 5, 0], list(range(7))]


@pytest.mark.parametrize(("call", "message"), [
    (lambda g: g.search(condition="joy"), "no class 'joy'; there are aesthetics: low, high; emotion: negative_calm"),
    (lambda g: g.search(condition="calm and aroused"), "no class of emotion is all of that at once"),
    (lambda g: g.search(), "give a photo's features, a condition such as 'high', or both"),
    (lambda g: g.search(condition="high", k=201), r"k in 1..200, the gallery's size, got 201"),
    (lambda g: g.search(np.ones((2, 11), np.float32)), r"rows of 12 numbers, got shape \(2, 11\)"),
    (lambda g: g.search(np.full((2, 12), np.nan)), "row 0 holds NaN"),
    (lambda g: g.search(np.ones((2, 12)), without=["1"]), "1 series to leave out for 2 queries"),
    (lambda g: Gallery(g.tasks, (), g.groups, g.vectors, g.probabilities, g.space), "empty; give it one photograph"),
    (lambda g: Gallery(g.tasks, g.names, g.groups, g.vectors[:, :5], g.probabilities, g.space),
     r"vectors of shape \(200, 6\), got \(200, 5\)"),
])
def test_what_cannot_be_is_refused_in_one_clear_line(gallery, call, message):
    with pytest.raises(ValueError, match=message):
        call(gallery)


def test_a_gallery_is_kept_without_pickle(gallery, features, tmp_path):
    gallery.save(tmp_path / "photos é")
    assert sorted(path.name for path in (tmp_path / "photos é").iterdir()) == ["gallery.json", "gallery.safetensors"]
    again = Gallery.load(tmp_path / "photos é")
    for mine, theirs in zip(again.search(features[:5], "high"), gallery.search(features[:5], "high"), strict=True):
        assert np.array_equal(mine, theirs)
    assert again.names == gallery.names and again.tasks == gallery.tasks
    with pytest.raises(FileNotFoundError, match="no gallery"):
        Gallery.load(tmp_path)
    (tmp_path / "photos é" / "gallery.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="damaged"):
        Gallery.load(tmp_path / "photos é")


def test_measures_are_scikit_learns():
    rng = np.random.default_rng(2)
    scores, relevant = rng.normal(size=(30, 50)), rng.random((30, 50)) < 0.2
    allowed = rng.random((30, 50)) < 0.7
    relevant[0] = False
    found = measures(scores, relevant, 10, allowed)
    assert found.loc[0].isna().all()
    for i in range(1, 30):
        s, r = scores[i][allowed[i]], relevant[i][allowed[i]]
        assert found["map"][i] == pytest.approx(average_precision_score(r, s))
        assert found["ndcg"][i] == pytest.approx(ndcg_score(r[None].astype(int), s[None], k=10))
        assert found["precision"][i] == pytest.approx(r[np.argsort(-s)[:10]].mean())


def test_what_chance_reaches_is_the_mean_over_all_orders():
    relevant = np.array([[True, False, True, False, False]])
    orders = [measures(np.array([order], float), relevant, 3).iloc[0] for order in itertools.permutations(range(5))]
    for name in ("precision", "map", "ndcg"):
        assert np.mean([one[name] for one in orders]) == pytest.approx(orders[0][f"chance_{name}"])


def test_a_photographs_own_series_neither_helps_nor_counts():
    """Two series of near-duplicates: the nearest is always of the own one, so without it precision falls to 0."""
    vectors = np.float32([[1, 0], [1, 0], [0, 1], [0, 1]])
    labels, groups = np.array([0, 0, 1, 1]), np.array(["a", "a", "b", "b"])
    found = search_measures(vectors, labels, groups, 2)
    assert len(found) == 4 and found["map"].isna().all()  # nothing of the same emotion is left to be found
    found = search_measures(vectors, labels, np.arange(4).astype(str), 1)
    assert (found["precision"] == 1).all() and (found["map"] == 1).all()
    assert len(search_measures(vectors, np.array([0, -1, 1, 1]), groups)) == 3


def test_class_searches_by_hand():
    p, labels = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]]), np.array([0, 0, 1, -1])
    assert class_map(p, labels) == pytest.approx(np.mean([(1 + 2 / 3) / 2, 1 / 2]))


def test_takes_follow_kendall_and_know_ties():
    rng = np.random.default_rng(3)
    high, liked, groups = rng.random(30), rng.random(30), np.repeat(["Lake", "Dog", "Sun"], 10)
    found = takes(high, liked, groups).set_index("group")
    for group in ("Lake", "Dog", "Sun"):
        mine = groups == group
        assert 2 * found["agree"][group] - 1 == pytest.approx(kendalltau(high[mine], liked[mine]).statistic)
        assert found["best"][group] == (high[mine].argmax() == liked[mine].argmax())
    assert (found["chance_best"] == 0.1).all()
    tied = takes(np.array([0.5, 0.5, 0.1, 0.7]), np.array([1.0, 2.0, np.nan, 3.0]), np.array(["a", "a", "a", "b"]))
    assert tied.values.tolist() == [["a", 2, 0.5, 0.5, 0.5]]


# --- runs

GRID = {"data": "scenes", "preset": "smoke", "splits": {"first": 1, "long": 1}, "settings": {"first": {"epochs": 1}},
        "tuning": {"learning_rate": [0.02]}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The two studies in small, on drawn scenes."""
    out = tmp_path_factory.mktemp("studies")
    told = {"compare": GRID | {"contenders": {"independent": {"method": "independent"},
                                              "cross_branch.diagonal": {"method": "cross_branch"}}},
            "colour": GRID | {"contenders": {"independent, colour and texture": {"method": "colour_texture"}}}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "protocol", lambda: {"studies": told})
        for name in told:
            comparisons.study(studies.study(name), out).run(at_once=1)
        yield out


@pytest.mark.parametrize("method", ["independent", "cross_branch", "colour_texture"])
def test_features_are_what_the_last_layer_reads(trained, method):
    runs = retrieval_study.chosen(trained)[0][method]
    run = Run(runs["emotion"])
    network = run.network("cpu")[0]
    root = comparisons.data_place(retrieval_study._config(run), trained, None)
    pixels = prepare(retrieval_study._config(run), root).pixels[:9]
    found = retrieval_study.features(run, pixels, "emotion", "cpu")
    last = network.parts()[1][1][-1].cpu()
    logits = found @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    _, mean = run.network("cpu")
    expected = predict_logits(network, pixels, np.arange(9), mean, run.settings.crop, torch.device("cpu"))["emotion"]
    assert np.allclose(logits, expected, atol=0.01 + 0.02 * np.abs(logits).max())  # the network's are in low precision
    with pytest.raises(ValueError, match="has no task 'beauty'; its tasks are aesthetics, emotion"):
        retrieval_study.features(run, pixels, "beauty")


def test_descriptors_are_those_of_the_pixels_and_kept(trained, monkeypatch):
    run = Run(retrieval_study.chosen(trained)[0]["independent"]["emotion"])
    config = retrieval_study._config(run)
    prepared = prepare(config, comparisons.data_place(config, trained, None))
    found = retrieval_study.descriptors(prepared.images, prepared.pixels, prepared.pixels.shape[1])
    std, mean = torch.tensor((0.5, 0.5, 0.5)), torch.tensor(MEAN)
    pixels = torch.tensor(prepared.pixels[3:5] / np.float32(255))
    expected = Appearance((0.5, 0.5, 0.5))(((pixels - mean) / std).permute(0, 3, 1, 2))
    assert np.allclose(found[3:5], expected, rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(retrieval_study, "resize", None)  # what was kept is not computed again
    again = retrieval_study.descriptors(prepared.images, prepared.pixels, prepared.pixels.shape[1])
    assert np.array_equal(found, again)


def test_the_comparison_has_a_row_a_contender_and_part(trained, capsys):
    run = Run(retrieval_study.chosen(trained)[0]["independent"]["emotion"])
    root = comparisons.data_place(retrieval_study._config(run), trained, None)
    study = retrieval_study.study(trained, root)
    study.run(at_once=1)
    table = study.gather()
    assert len(table) == 4 * 2 and set(table["contender"]) == {*retrieval_study.CONTENDERS, "descriptors"}
    shares = table[["precision", "map", "answers_ndcg", "class_map", "chance_map"]].stack()
    assert shares.between(0, 1).all()
    whole = table.dropna(subset="map")
    assert ((whole["map_low"] <= whole["map"]) & (whole["map"] <= whole["map_high"])).all()
    prepared = prepare(retrieval_study._config(run), root)
    rows = prepared.split.test
    space = Space.fit(retrieval_study.features(run, prepared.pixels, "emotion")[prepared.split.train])
    vectors = space(retrieval_study.features(run, prepared.pixels, "emotion"))[rows]
    by_hand = search_measures(vectors, prepared.images.labels("emotion")[rows], prepared.images.groups[rows])
    mine = table.query("contender == 'independent' and part == 'test'").iloc[0]
    assert mine["map"] == pytest.approx(by_hand["map"].mean(), abs=1e-5)
    said = run.predictions("test")
    p = said[[f"emotion_{name}" for name in run.tasks[1].classes]].to_numpy()
    order = np.argsort(-(np.sqrt(p) @ np.sqrt(p[0])), kind="stable")
    truth = (said["true_emotion"] == said["true_emotion"][0]).to_numpy()[order[order > 0]]
    first = search_measures(np.sqrt(p), said["true_emotion"].astype("category").cat.codes.to_numpy(), said["group"])
    assert first["map"][0] == pytest.approx(average_precision_score(truth, -np.arange(len(truth))))
    assert mine["answers_map"] == pytest.approx(first["map"].mean(), abs=1e-5)
    made = retrieval_study.gallery(run, root)
    assert list(made.names) == said["image"].tolist() and np.allclose(made.vectors, vectors, atol=1e-5)
    assert np.array_equal(made.probabilities["aesthetics"][:, 1], said["aesthetics_high"])


def test_unfinished_studies_say_what_to_run(tmp_path, capsys):
    assert main(["retrieval", "--out", str(tmp_path)]) == 1
    assert "no cell of the study colour is finished" in capsys.readouterr().err


def test_the_committed_table_is_one_of_real_runs():
    table = retrieval_study.read()
    assert set(table["contender"]) == {*retrieval_study.CONTENDERS, "descriptors"}
    assert (table.groupby("split").size() == 8).all() and table["split"].nunique() >= 3
    assert table["map"].between(table["map_low"], table["map_high"]).all()
    chance = table.query("part == 'test'").groupby("split")["chance_map"]
    assert (chance.nunique() == 1).all(), "the contenders answered other queries"
