"""What is known of the licences of a model's parts."""

import json

from hub import LocalHub

from descant.publish.card import write_card
from descant.publish.parts import complete_licences, describe_part


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
