"""The large corpus: planned from seeds, without what tests are kept for, and rendered with facts that hold."""

import ctypes.util
import io
import json
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest
import soundfile

from descant.data.demo import facts

SCRIPT = "make_music_corpus"
CLIPS = 6400


@pytest.fixture(scope="module")
def plans(script):
    return list(script.plan_clips(CLIPS))


def test_a_longer_plan_begins_with_the_shorter_one(script, plans):
    assert list(script.plan_clips(500)) == plans[:500]
    assert len({plan.clip_id for plan in plans}) == CLIPS


def test_the_plan_is_broad_enough(plans):
    songs = [plan for plan in plans if plan.kind == "song"]
    solos = [plan for plan in plans if plan.kind == "solo"]
    assert len({plan.groove for plan in songs}) >= 300
    assert len({plan.groove.genre for plan in songs}) >= 20
    assert len({plan.soundfont for plan in songs if plan.split == "train"}) >= 3
    assert len({plan.lead for plan in solos}) >= 30 and 0.2 < len(solos) / CLIPS < 0.3
    assert {plan.groove.metre for plan in songs} >= {"3/4", "4/4", "6/8"}
    assert len({plan.key for plan in songs}) == 12
    assert (min(plan.tempo_bpm for plan in songs), max(plan.tempo_bpm for plan in songs)) == (50, 190)
    assert 300 <= Counter(plan.kind for plan in plans)["other"] <= 500


def test_a_groove_is_in_one_split(plans):
    splits: dict[str, set[str]] = {}
    for plan in plans:
        if plan.kind == "song":
            splits.setdefault(plan.groove.file, set()).add(plan.split)
    assert {len(found) for found in splits.values()} == {1}
    assert set.union(*splits.values()) == {"train", "validation", "test"}


def test_grooves_kept_for_tests_are_absent(plans):
    from demo_corpus.grooves import GROOVES
    from music_corpus.groove_library import INDEPENDENT_TEST_FILES, library

    of_demo = {groove.name: groove.file.removesuffix(".mma") for groove in GROOVES}
    held_out = {of_demo[row["groove"]] for row in facts() if row["split"] == "test_grooves"}
    kept = held_out | INDEPENDENT_TEST_FILES
    assert len(held_out) == 6 and len(INDEPENDENT_TEST_FILES) == 23
    assert not kept & set(library())
    assert not kept & {plan.groove.file for plan in plans if plan.kind == "song"}


def test_grooves_and_chords_of_the_demos_test_clips_are_absent(plans):
    from demo_corpus.chords import PROGRESSIONS
    from demo_corpus.grooves import GROOVES

    of_demo = {groove.name: groove.file.removesuffix(".mma") for groove in GROOVES}
    tested = {(of_demo[row["groove"]], PROGRESSIONS[row["chords"]])
              for row in facts() if row["split"].startswith("test")}  # fmt: skip
    assert not tested & {(plan.groove.file, plan.numerals) for plan in plans if plan.kind == "song"}


def test_a_pair_of_the_demos_test_is_drawn_again(script, monkeypatch):
    import music_corpus.plan as plan_module

    draws = iter([("major", "forbidden"), ("minor", "free")])
    monkeypatch.setattr(plan_module, "draw_progression", lambda rng: next(draws))
    monkeypatch.setattr(plan_module, "_draw_groove", lambda split, rng: plan_module.library()["stdlib/swing"][0])
    monkeypatch.setattr(plan_module, "demo_test_pairs", lambda: {("stdlib/swing", "forbidden")})
    assert plan_module._draw_song("train", None)[1] == ("minor", "free")


def test_no_training_clip_uses_a_copyleft_soundfont(plans):
    from music_corpus.sounds import SOUNDFONTS

    used = {SOUNDFONTS[plan.soundfont][1] for plan in plans if plan.split == "train" and plan.soundfont}
    assert used == {"MIT"}


def test_every_chord_of_a_drawn_progression_can_be_spelled(script):
    import random

    from demo_corpus.chords import spell_numerals
    from music_corpus.harmony import draw_progression

    for seed in range(300):
        mode, numerals = draw_progression(random.Random(seed))
        assert len(spell_numerals(numerals, "Eb")) == 8
        assert numerals.split()[0].rstrip("7") == {"major": "I", "minor": "i"}[mode]


def test_effects_keep_length_and_bounds_and_repeat(script):
    from music_corpus.effects import apply_effects

    tone = np.sin(np.arange(16000) / 20).astype(np.float32)
    names = set()
    for seed in range(12):
        sound, applied = apply_effects(tone, str(seed))
        assert sound.shape == tone.shape and sound.dtype == np.float32
        assert np.isfinite(sound).all() and 0.01 < np.abs(sound).max() <= 1.1
        names |= {name.split()[0] for name in applied}
    assert {"reverb", "equaliser", "noise"} <= names
    assert np.array_equal(apply_effects(tone, "5")[0], apply_effects(tone, "5")[0])


@pytest.mark.parametrize("kind", ["_noise", "_field", "_silence"])
def test_sounds_without_music_have_ten_seconds(script, kind):
    import random

    import music_corpus.other as other

    for seed in range(4):
        sound, title = getattr(other, kind)(random.Random(seed), np.random.default_rng(seed))
        assert sound.shape == (160_000,) and np.isfinite(sound).all() and title


def test_a_run_goes_on_where_it_was_killed(script, tmp_path):
    lines = tmp_path / "facts.jsonl"
    assert script.clips_done(lines) == set()
    lines.write_text('{"clip_id": "m000000"}\n{"clip_id": "m0000')
    assert script.clips_done(lines) == {"m000000"}
    assert lines.read_text() == '{"clip_id": "m000000"}\n'


def test_a_clip_whose_program_fails_is_named_and_costs_no_other(script, plans, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "make_clip", lambda plan: subprocess.run(["false"], check=True))
    clip_id, _, error = script._make_and_write((plans[0], tmp_path))
    assert clip_id == plans[0].clip_id and error.startswith("CalledProcessError: ")


def test_a_clip_has_the_sound_that_its_facts_state(script, plans):
    from music_corpus.clip import make_clip
    from music_corpus.sounds import FOLDERS

    quick = ("TimGM6mb.sf2", "FluidR3_GM.sf2", "FluidR3Mono_GM.sf3")  # in the order of their loading times
    installed = [name for name in quick if any((folder / name).is_file() for folder in FOLDERS)]
    missing = [] if shutil.which("mma") else ["mma"]
    missing += [] if ctypes.util.find_library("fluidsynth") else ["libfluidsynth"]
    missing += [] if installed else ["a soundfont"]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    full = next(plan for plan in plans if plan.kind == "song" and plan.groove.genre == "rock" and plan.lead
                and plan.bass and plan.drums and not plan.groove.only_drums
                and plan.soundfont == installed[0])  # fmt: skip
    audio, stated = make_clip(full)
    sound, rate = soundfile.read(io.BytesIO(audio))
    assert (sound.shape, rate) == ((160_000,), 16_000) and np.sqrt(np.mean(sound**2)) > 0.01
    assert stated["lead_instrument"] == full.lead and stated["drums"] and stated["bass"] != "no bass"
    assert {full.lead, "drums", stated["bass"]} <= set(stated["instruments"])
    assert stated["file"] == f"audio/{full.clip_id}.ogg" and json.loads(json.dumps(stated)) == stated
    assert make_clip(full)[1] == stated


def test_a_soundfont_that_is_missing_is_named_with_its_package(script, monkeypatch, tmp_path):
    import music_corpus.sounds as sounds

    monkeypatch.setattr(sounds, "FOLDERS", (tmp_path,))
    with pytest.raises(FileNotFoundError, match="apt-get install timgm6mb-soundfont"):
        sounds.soundfont_path("TimGM6mb.sf2")
