"""What a model folder says it was trained on, and that its licence is never freer than its data's."""

import json

import pytest
from hub import LocalHub

from descant.data.splits import ClipHashes
from descant.hub_client import PublishError
from descant.models import box
from descant.publish.card import write_card
from descant.publish.facts import CLIPS_FILE, describe_data, inherit_records, read_records, write_records
from descant.publish.licence import choose_licence, complete_licences, describe_part, is_hub_id, public_name


def test_records_are_carried_on_from_the_model_that_training_began_with(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    captions = describe_data("musiccaps", "1", "cc-by-sa-4.0", ["a", "b"], ["captions"])
    answers = describe_data("music_instruct", "2", "cc-by-nc-4.0", ["b", "c"], ["short"])
    write_records(first, [captions], {"b": ClipHashes("22"), "a": ClipHashes("11")}, None)
    write_records(second, [answers], {"c": ClipHashes("33"), "b": ClipHashes("22")}, str(first))
    datasets, clips = read_records(str(second))
    assert [one["id"] for one in datasets] == ["musiccaps", "music_instruct"]
    assert list(clips.items()) == [("a", ClipHashes("11")), ("b", ClipHashes("22")), ("c", ClipHashes("33"))]


def test_the_same_clips_give_the_same_bytes(tmp_path):
    write_records(tmp_path, [], {"b": ClipHashes("2"), "a": ClipHashes("1")}, None)
    before = (tmp_path / CLIPS_FILE).read_bytes()
    write_records(tmp_path, [], {"a": ClipHashes("1"), "b": ClipHashes("2")}, None)
    assert (tmp_path / CLIPS_FILE).read_bytes() == before


def test_clips_may_have_names_of_any_kind(tmp_path):
    clips = {name: ClipHashes("f", "5:0-10") for name in ("tab\there", "line\u2028here", "no text \udcff")}
    write_records(tmp_path, [], clips, None)
    assert read_records(str(tmp_path))[1] == clips


def test_a_folder_without_records_gives_none(tmp_path):
    assert read_records(str(tmp_path)) == ([], {})


@pytest.mark.parametrize(("card", "licence"), [(None, "unknown"), ("cc-by-nc-4.0", "cc-by-nc-4.0")])
def test_a_model_without_records_hands_on_itself(tmp_path, card, licence):
    start, trained = tmp_path / "start", tmp_path / "trained"
    start.mkdir()
    if card:
        (start / "README.md").write_text(f"---\nlicense: {card}\n---\nA model.")
    write_records(trained, [describe_data("mine", "1", "mit", ["a"], ["short"])], {"a": ClipHashes("1")}, str(start))
    datasets, clips = inherit_records(str(trained))
    assert [(one["id"], one["licence"]) for one in datasets] == [("start", licence), ("mine", "mit")]
    assert clips == {"a": ClipHashes("1")}


def test_a_dataset_in_a_folder_is_recorded_by_its_name(tmp_path):
    assert describe_data(str(tmp_path / "music"), "1", "mit", ["a"], ["short"])["id"] == "music"
    assert describe_data("someone/music", "1", "mit", ["a"], ["short"])["id"] == "someone/music"


OFFLINE = "huggingface_hub.constants.HF_HUB_OFFLINE"


def test_records_on_the_hub_that_cannot_be_reached_are_an_error(local_hub, tmp_path, monkeypatch):
    entry = describe_data("mine", "1", "mit", ["a"], ["short"])
    write_records(tmp_path / "trained", [entry], {"a": ClipHashes("1")}, None)
    local_hub.api().create_repo("tester/trained")
    local_hub.api().upload_folder(repo_id="tester/trained", folder_path=tmp_path / "trained")
    with monkeypatch.context() as away, pytest.raises(ValueError, match="what it was trained on cannot be read"):
        away.setattr(OFFLINE, True)
        read_records("tester/trained")
    datasets, clips = read_records("tester/trained")
    assert clips["a"].features == "1"
    monkeypatch.setattr(OFFLINE, True)
    assert read_records("tester/trained") == (datasets, clips)


def test_a_model_on_the_hub_that_was_seen_to_have_no_records_has_none_offline(local_hub, monkeypatch):
    local_hub.api().create_repo("tester/bare")
    assert read_records("tester/bare") == ([], {})
    monkeypatch.setattr(OFFLINE, True)
    assert read_records("tester/bare") == ([], {})


def test_a_model_that_the_hub_does_not_show_is_an_error(local_hub):
    with pytest.raises(ValueError, match="tester/nothing: what it was trained on cannot be read"):
        read_records("tester/nothing")


def data(*licences):
    return [{"id": f"data{number}", "licence": licence} for number, licence in enumerate(licences)]


@pytest.mark.parametrize(
    "licence", ["cc-by-nc-4.0", "CC BY-NC 4.0", "cc_by_nc_4.0", ["mit", "cc-by-nc-nd-4.0"], "non-commercial"]
)
def test_any_data_for_non_commercial_use_make_the_model_so(licence):
    assert choose_licence(data("mit", licence)) == "cc-by-nc-4.0"


@pytest.mark.parametrize("wanted", ["mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", "openrail", "unknown"])
def test_freer_licence_than_the_data_is_refused_by_name(wanted):
    with pytest.raises(PublishError, match=f"trained on data1, .*cannot be published as {wanted}"):
        choose_licence(data("mit", "cc-by-nc-4.0"), wanted)


def test_a_part_for_non_commercial_use_makes_the_model_so():
    parts = [{"id": "some/encoder", "licence": "cc-by-nc-4.0"}, {"id": "some/model", "licence": None}]
    assert choose_licence(data("mit"), parts=parts) == choose_licence(data(None), parts=parts) == "cc-by-nc-4.0"
    with pytest.raises(PublishError, match="joined from some/encoder, for non-commercial use only: .* as mit"):
        choose_licence(data("mit"), "mit", parts)


def test_a_part_of_unnamed_licence_needs_a_decision():
    parts = [{"id": "some/encoder", "licence": "mit"}, {"id": "some/model", "licence": None}]
    assert choose_licence(data("mit"), parts=parts[:1]) == choose_licence(data("mit"), "apache-2.0", parts)
    with pytest.raises(PublishError, match="nothing says the licence of some/model: give the model's licence"):
        choose_licence(data("mit"), parts=parts)


def test_stricter_non_commercial_licence_may_be_asked_for():
    assert choose_licence(data("cc-by-nc-4.0"), "CC BY-NC-SA 4.0") == "cc-by-nc-sa-4.0"


@pytest.mark.parametrize("wanted", ["cc-by-nc-4.0", "cc-by-sa-4.0", "mit"])
def test_data_that_are_both_ask_for_both(wanted):
    assert choose_licence(data("mit", "cc_by_nc_sa_4.0", "cc-by-nc-4.0")) == "cc-by-nc-sa-4.0"
    with pytest.raises(PublishError, match=f"trained on data1, .* share-alike: .* as {wanted}; leave .*-nc-sa-4.0$"):
        choose_licence(data("mit", "cc-by-nc-sa-4.0"), wanted)


def test_free_data_leave_the_choice():
    assert choose_licence(data("mit", "cc0-1.0")) == "apache-2.0"
    assert choose_licence(data("mit", "cc-by-sa-4.0")) == "cc-by-sa-4.0"
    assert choose_licence(data("mit"), "MIT") == "mit"


@pytest.mark.parametrize("wanted", ["mit", "apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "unknown"])
def test_share_alike_data_refuse_a_licence_without_it(wanted):
    with pytest.raises(PublishError, match=f"trained on data1, under share-alike terms: .* as {wanted}; leave .*-sa-"):
        choose_licence(data("mit", "cc-by-sa-4.0"), wanted)
    assert choose_licence(data("cc-by-sa-4.0"), "CC BY-SA 3.0") == "cc-by-sa-3.0"
    assert choose_licence(data("cc-by-sa-4.0"), "cc-by-nc-sa-4.0") == "cc-by-nc-sa-4.0"


def test_share_alike_beside_non_commercial_data_stays_non_commercial():
    assert choose_licence(data("cc-by-sa-4.0", "cc-by-nc-4.0")) == "cc-by-nc-4.0"
    assert choose_licence(data("cc-by-sa-4.0", "cc-by-nc-4.0"), "cc-by-nc-sa-4.0") == "cc-by-nc-sa-4.0"
    with pytest.raises(PublishError, match="trained on data1, for non-commercial use only"):
        choose_licence(data("cc-by-sa-4.0", "cc-by-nc-4.0"), "cc-by-sa-4.0")


@pytest.mark.parametrize("licence", ["cc-by-nd-4.0", "gpl-3.0", "my-own-terms", ["mit", "gpl-3.0"]])
def test_data_under_terms_of_their_own_need_a_decision(licence):
    with pytest.raises(PublishError, match=r"of data1 \(.*\) asks of a model is for you to judge: give .* --license"):
        choose_licence(data("mit", licence))
    assert choose_licence(data("mit", licence), "gpl-3.0") == "gpl-3.0"


def test_of_one_dataset_in_two_versions_the_stricter_counts():
    twice = [{"id": "music", "licence": "cc-by-nc-4.0"}, {"id": "music", "licence": "mit"}]
    assert choose_licence(twice) == "cc-by-nc-4.0"


@pytest.mark.parametrize("licence", ["unknown", None, "", "other"])
def test_data_of_unnamed_licence_need_a_decision(licence):
    with pytest.raises(PublishError, match="nothing says the licence of data1: give"):
        choose_licence(data("mit", licence))
    assert choose_licence(data(licence), "mit") == "mit"


@pytest.mark.parametrize("datasets", [None, []])
def test_unrecorded_training_needs_a_decision(datasets):
    with pytest.raises(PublishError, match="nothing says what the model was trained on"):
        choose_licence(datasets)
    assert choose_licence(datasets, "mit") == "mit"


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("/home/someone/music", "music"), ("../music", "music"), ("./music", "music"), ("runs/a/best/", "best"),
        ("someone/music-v1.5", "someone/music-v1.5"), ("descant/demo", "descant/demo"), ("own", "own"), (3, 3),
    ],
)  # fmt: skip
def test_of_a_path_the_last_name_is_left(name, public):
    assert public_name(name) == public


def test_a_folder_that_is_here_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "data" / "music").mkdir(parents=True)
    assert is_hub_id("data/music")
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("data/music") and public_name("data/music") == "music"
    assert public_name(str(box.FOLDER)) == "descant/box"


def test_the_known_music_encoder_is_for_non_commercial_use_without_a_network():
    assert describe_part("m-a-p/MERT-v1-95M") == {"id": "m-a-p/MERT-v1-95M", "licence": "cc-by-nc-4.0"}


def test_a_folder_s_card_says_its_licence(tmp_path):
    assert describe_part(str(tmp_path))["licence"] is None
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nA model.")
    assert describe_part(str(tmp_path))["licence"] == "mit"
    assert describe_part(str(tmp_path / "gone" / "from" / "here"))["licence"] is None


def test_of_a_part_that_was_never_fetched_only_the_hub_knows():
    part = describe_part("tester/encoder")
    assert part["licence"] is None
    with LocalHub() as hub:
        api = hub.api()
        assert complete_licences([part], api) == [part]
        api.create_repo("tester/encoder")
        card = b"---\nlicense: cc-by-nc-4.0\n---\n"
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id="tester/encoder")
        assert complete_licences([part], api) == [{"id": "tester/encoder", "licence": "cc-by-nc-4.0"}]


def test_an_adapter_on_a_non_commercial_encoder_says_so_on_its_card(adapter_folder):
    config = {"audio_model_id": "m-a-p/MERT-v1-95M", "text_model_id": str(adapter_folder)}
    (adapter_folder / "config.json").write_text(json.dumps(config))
    card = write_card(adapter_folder).read_text()
    assert "license: cc-by-nc-4.0" in card and "m-a-p/MERT-v1-95M (cc-by-nc-4.0) and " in card
    assert "parts for non-commercial use went into it, so the weights may not be used commercially" in card
