"""The OASIS reader: the traps on a small made-up copy, the published facts on the real photographs."""

import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from aesthemo_lib.data import ratings as rating
from aesthemo_lib.data.readers import oasis, read
from aesthemo_lib.data.readers.download import checksums

THEMES = ["Lake 1", "War 2 ", "Lake 12", "Nude man 3", "Fire hydrant 1", "Fire 10"]
VALENCE = [6.0, 2.0, 4.0, 5.0, 4.01, 3.9]
AROUSAL = [3.0, 5.0, 2.0, 5.0, 3.7256, 3.7255]
BEAUTY = {1: [7, 6, 4], 2: [1, 2], 3: [4, 4], 4: [5], 5: [4, 5, 3, 2], 6: [1, 7]}


@pytest.fixture
def small(tmp_path):
    """Six made-up photographs in the published layout, in a folder with a space and an accent."""
    root = tmp_path / "Prüfung 1"
    (root / "images").mkdir(parents=True)
    lines = [",Theme,Category,Source,Valence_mean,Valence_SD,Valence_N,Arousal_mean,Arousal_SD,Arousal_N"]
    lines += [f"I{n},{theme},Scenery,Pixabay,{v},1.1,100,{a},1.2,101"
              for n, (theme, v, a) in enumerate(zip(THEMES, VALENCE, AROUSAL, strict=True), 1)]
    (root / "OASIS.csv").write_bytes("\r".join(lines).encode())
    means = ["item,beauty_mean,Theme,Category,,"]
    means += [f"{n},{np.mean(BEAUTY[n]):.2f},{theme.replace(' ', '')},Scenery,," for n, theme in enumerate(THEMES, 1)]
    (root / "means_per_image.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(means).encode())
    rows = [(100 + rater, item, value) for item, values in BEAUTY.items() for rater, value in enumerate(values)]
    columns = [np.array(column)[:, None] for column in zip(*rows[::-1], strict=True)]
    savemat(root / "OASISdata.mat", {"subjID": columns[0].astype(np.uint16), "item": columns[1].astype(np.uint16),
                                     "beauty": columns[2].astype(np.uint8), "data": np.zeros(3)})
    for theme in THEMES:
        Image.new("RGB", (5, 4)).save(root / "images" / f"{theme.strip()}.jpg")
    return root


def test_reads_the_published_layout(small):
    images = read("oasis", small)
    assert [path.name for path in images.paths] == [
        "Lake 1.jpg", "War 2.jpg", "Lake 12.jpg", "Fire hydrant 1.jpg", "Fire 10.jpg"]
    assert images.groups.tolist() == ["Lake", "War", "Lake", "Fire hydrant", "Fire"]
    assert images.votes["aesthetics"].tolist() == [[0.5, 2.5], [2, 0], [1, 1], [2.5, 1.5], [1, 1]]
    assert images.labels("aesthetics").tolist() == [1, 0, 0, 0, 0]
    assert images.facts["item"].tolist() == [1, 2, 3, 5, 6]
    assert images.facts["beauty_mean"].tolist() == [5.67, 1.5, 4, 3.5, 4]
    assert images.facts["source"].eq("Pixabay").all() and images.facts["valence_sd"].eq(1.1).all()
    table = images.ratings["aesthetics"]
    for row, item in enumerate(images.facts["item"]):
        mine = table[table["image"] == row].sort_values("annotator")
        assert mine["value"].tolist() == BEAUTY[item]
        assert mine["annotator"].tolist() == list(range(100, 100 + len(BEAUTY[item])))
    assert images.levels == {"aesthetics": "interval"}


def test_quadrants_and_the_rule_on_the_cut(small):
    """Exactly 4 counts as negative and exactly 3.7255 as calm."""
    images = read("oasis", small)
    classes = [images.tasks[1].classes[label] for label in images.labels("emotion")]
    assert classes == ["positive_calm", "negative_aroused", "negative_calm", "positive_aroused", "negative_calm"]
    assert images.votes["emotion"].sum(axis=1) == pytest.approx(np.ones(5))


def test_the_shares_of_the_quadrants_are_those_of_many_drawn_ratings(small):
    images, rng = read("oasis", small, spread=1.0), np.random.default_rng(0)
    for votes, one in zip(images.votes["emotion"], images.facts.itertuples(), strict=True):
        good = rng.normal(one.valence_mean, 1.1, 100_000) > 4
        calm = rng.normal(one.arousal_mean, 1.2, 100_000) <= 3.7255
        drawn = [np.mean(part) for part in (~good & calm, ~good & ~calm, good & calm, good & ~calm)]
        assert votes == pytest.approx(drawn, abs=0.01)
    nearer, whole = read("oasis", small).votes["emotion"], read("oasis", small, spread=0.0).votes["emotion"]
    assert (nearer.max(axis=1) > images.votes["emotion"].max(axis=1))[[0, 1, 2]].all(), "by default half the deviation"
    assert whole[[0, 1, 3]] == pytest.approx(np.eye(4)[[2, 1, 3]])


def test_shares_estimated_in_that_way_miss_beautys_by_three_hundredths(oasis_root):
    """Of beauty every single rating is published, so there the estimate can be checked."""
    images = read("oasis", oasis_root)
    rated = images.ratings["aesthetics"].groupby("image")["value"]
    facts = pd.DataFrame({f"{name}_{end}": values for name in ("valence", "arousal")
                          for end, values in (("mean", rated.mean()), ("sd", rated.std()))})
    estimated, votes = oasis.affect_shares(facts)["valence"], images.votes["aesthetics"]
    missed = np.abs(estimated - votes / votes.sum(axis=1, keepdims=True))[:, 1]
    assert missed.mean() < 0.03 and missed.max() < 0.1


def test_sensitive_themes_come_when_asked(small):
    images = read("oasis", small, sensitive=True)
    assert len(images) == 6 and images.groups[3] == "Nude man"
    assert images.votes["aesthetics"][3].tolist() == [0, 1]


def test_reads_what_is_there_and_says_what_is_not(small, caplog):
    (small / "images" / "War 2.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        images = read("oasis", small)
    assert images.facts["item"].tolist() == [1, 3, 5, 6]
    assert images.labels("aesthetics").tolist() == [1, 0, 0, 0]
    assert images.ratings["aesthetics"]["image"].max() == 3
    assert "810 of the 814" in caplog.text and "other 4" in caplog.text


SINGLE = {"Valence": {1: [6, 6], 2: [1, 3], 3: [4, 3, 5], 5: [4, 4, 4, 4.04], 6: [3.9]},
          "Arousal": {1: [3], 2: [7, 3], 3: [1, 3], 5: [3, 4.4512], 6: [3.7255]}}


def with_single_ratings(root, change=lambda name, item, value: value):
    """OSF's table: a row a person, who rated valence or arousal of some photographs; the other cells are empty."""
    rows = ["ID,List,Condition,Gender,valar," + ",".join(f"I{n}" for n in range(1, 7))]
    for name, rated in SINGLE.items():
        for person in range(4):
            cells = [str(change(name, n, rated[n][person])) if person < len(rated.get(n, ())) else ""
                     for n in range(1, 7)]
            rows.append(f"x,1,image,f,{name},{','.join(cells)}")
    (root / "OASIS_data.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def test_single_ratings_of_valence_and_arousal(small):
    before = read("oasis", small, tasks=["valence", "arousal"])
    assert not before.ratings and (before.votes["valence"].sum(axis=1) == 1).all()
    images = read("oasis", with_single_ratings(small), tasks=["emotion", "valence", "arousal"])
    assert images.votes["valence"].tolist() == [[0, 2], [2, 0], [1.5, 1.5], [1.5, 2.5], [1, 0]]
    assert images.votes["arousal"].tolist() == [[1, 0], [1, 1], [2, 0], [1, 1], [0.5, 0.5]]
    assert images.levels == {"valence": "interval", "arousal": "interval"}
    assert not set(images.ratings["valence"]["annotator"]) & set(images.ratings["arousal"]["annotator"])
    assert 0 < images.one_rater_accuracy("valence") <= 1 and 0 < images.panel_ceiling("valence") <= 1
    assert images.labels("emotion").tolist() == read("oasis", small).labels("emotion").tolist()


def test_single_ratings_that_are_not_as_published(small):
    with_single_ratings(small, lambda name, item, value: value + (name == "Arousal" and item == 3))
    assert read("oasis", small).labels("emotion").tolist()  # the file isn't needed there
    with pytest.raises(ValueError, match="arousal ratings of I3 have the mean 3.000, but OASIS.csv says 2.000"):
        read("oasis", small, tasks=["arousal"])
    file = with_single_ratings(small) / "OASIS_data.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("Arousal", "Dominance"), encoding="utf-8")
    with pytest.raises(ValueError, match="'valar' holds 'dominance'; expected Valence or Arousal"):
        read("oasis", small, tasks=["arousal"])


@pytest.mark.parametrize("spelling", ["Scene", "Scenery", "Scenery "])
def test_both_spellings_of_scenery(small, spelling):
    file = small / "OASIS.csv"
    file.write_bytes(file.read_bytes().replace(b",Scenery,", f",{spelling},".encode()))
    images = read("oasis", small, tasks=["category"])
    assert images.labels("category").tolist() == [3] * 5 and images.facts["category"].eq("Scenery").all()


@pytest.mark.parametrize("name", ["OASIS.csv", "OASISdata.mat", "means_per_image.csv"])
def test_a_missing_file_is_named(small, name):
    (small / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: not found.*download.fetch"):
        read("oasis", small)


def test_no_photographs(small):
    for path in (small / "images").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="images: none of the photographs"):
        read("oasis", small)


def test_tables_that_do_not_belong_together(small):
    text = (small / "means_per_image.csv").read_text(encoding="utf-8-sig").replace("Lake12", "Lake13")
    (small / "means_per_image.csv").write_text(text, encoding="utf-8-sig")
    with pytest.raises(ValueError, match="item 3 is 'Lake13', but OASIS.csv says 'Lake 12'"):
        read("oasis", small)
    (small / "OASIS.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="OASIS.csv: column 'Theme' is missing"):
        read("oasis", small)


@pytest.mark.parametrize(("theme", "stem"), [
    ("Lake 12", "Lake"), ("War 2 ", "War"), ("Fire hydrant 1", "Fire hydrant"), ("KKK rally 2", "KKK rally"),
])
def test_theme_stem(theme, stem):
    assert oasis.theme_stem(theme) == stem


def test_sensitive_themes_are_themes_of_the_900():
    stems = pd.Series([oasis.theme_stem(name[len("images/"):-len(".jpg")]) for name in checksums() if "/" in name])
    assert len(stems) == oasis.PUBLISHED and oasis.SENSITIVE_THEMES <= set(stems)
    assert stems.isin(oasis.SENSITIVE_THEMES).sum() == oasis.PUBLISHED_SENSITIVE
    # No other theme bears such a word.
    words = "nude|naked|bdsm|sex|dead|corpse|carcass|injur|wound|blood|sever|torture|tumor|kkk|nazi|skinhead|feces"
    assert {stem for stem in set(stems) if any(w in stem.lower() for w in words.split("|"))} == oasis.SENSITIVE_THEMES


@pytest.fixture(scope="module")
def real(oasis_root):
    return oasis.read(oasis_root)


def test_the_625_photographs(real, oasis_root):
    """The facts that hold for the part beside the checkout, to the digits that they are stated with."""
    assert len(real) == 625 == len(list((oasis_root / "images").iterdir()))
    assert len(real.ratings["aesthetics"]) == 118191
    raters = real.ratings["aesthetics"].groupby("image").size()
    assert (raters.min(), raters.max()) == (104, 368)
    assert np.mean(real.labels("aesthetics") == 1) == pytest.approx(0.698, abs=0.0005)
    assert np.bincount(real.labels("emotion")).max() / 625 == pytest.approx(0.40, abs=0.005)
    assert (real.facts["beauty_mean"] > 4).mean() == pytest.approx(0.661, abs=0.0005)
    means = real.ratings["aesthetics"].groupby("image")["value"].mean()
    assert (real.labels("aesthetics") == (means > 4)).mean() == pytest.approx(0.96, abs=0.005)
    assert np.abs(means - real.facts["beauty_mean"]).max() <= 0.00501  # published with two digits
    assert not set(real.groups) & oasis.SENSITIVE_THEMES and len(set(real.groups)) == 187


def test_agreement_on_the_625(real):
    alpha = rating.krippendorff_alpha(real.ratings["aesthetics"], real.levels["aesthetics"])
    assert alpha == pytest.approx(0.333, abs=0.0005)
    assert real.one_rater_accuracy("aesthetics") == pytest.approx(0.735, abs=0.0005)
    assert real.panel_ceiling("aesthetics") == pytest.approx(0.972, abs=0.002)


def test_alpha_equals_the_raw_matrix_on_the_625(real):
    import krippendorff

    table = real.ratings["aesthetics"]
    raw = table.pivot(index="annotator", columns="image", values="value").to_numpy()
    expected = krippendorff.alpha(reliability_data=raw, level_of_measurement="interval")
    assert rating.krippendorff_alpha(table, "interval") == pytest.approx(expected, abs=1e-12)


def test_two_halves_of_the_raters(real):
    """Two random halves of an image's raters agree on whether its mean lies above 4 for 94.8 % of the images."""
    rng, agree = np.random.default_rng(0), []
    for _, values in real.ratings["aesthetics"].groupby("image")["value"]:
        shuffled = rng.permuted(np.tile(values, (40, 1)), axis=1)
        half = len(values) // 2
        agree.append(np.mean((shuffled[:, :half].mean(axis=1) > 4) == (shuffled[:, half:].mean(axis=1) > 4)))
    assert np.mean(agree) == pytest.approx(0.948, abs=0.003)


def test_group_splits_of_the_625(real):
    for number in range(4):
        split = real.split(number)
        assert not set(real.groups[split.train]) & set(real.groups[np.r_[split.validation, split.test]])
        assert len(split.test) == pytest.approx(625 / 4, abs=2)
        assert set(real.labels("emotion")[split.test]) == {0, 1, 2, 3}
        assert np.mean(real.labels("aesthetics")[split.test]) == pytest.approx(0.698, abs=0.06)


def test_the_scales_apart_are_the_quadrants_taken_apart(oasis_root):
    whole = read("oasis", oasis_root)
    apart = read("oasis", oasis_root, tasks=["arousal", "aesthetics", "valence", "category"])
    assert [task.name for task in apart.tasks] == ["arousal", "aesthetics", "valence", "category"]
    assert (2 * apart.labels("valence") + apart.labels("arousal") == whole.labels("emotion")).all()
    assert (apart.labels("aesthetics") == whole.labels("aesthetics")).all()
    names = np.array(apart.tasks[3].classes)
    assert (names[apart.labels("category")] == apart.facts["category"]).all()
    assert not read("oasis", oasis_root, tasks=["valence"]).ratings
    with pytest.raises(ValueError, match="unknown task 'mood'; choose of aesthetics, emotion, valence"):
        read("oasis", oasis_root, tasks=["mood"])
