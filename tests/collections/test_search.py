"""Search: what a query wants and denies, conditions that can only read, likeness, playlists, the two commands."""

import json
import random
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_up import GENRES, describe
from tiny import save_tiny_decider, save_tiny_model, write_song

from descant import cli
from descant.answering import description
from descant.collections import search_index
from descant.collections.query import parse_query, select_ids
from descant.collections.search import Hit, Searcher, write_playlist
from descant.collections.search_index import write_index
from descant.collections.word_index import WordIndex, write_words
from descant.commands.search import format_hit

SONGS = [
    describe("calm piano.mp3", states=[1.0, 0.0, 0.2]),
    describe("calm drums.mp3", playing=("piano", "drums"), states=[0.9, 0.1, 0.2]),
    describe("fast rock.mp3", "rock", mood="tense", tempo="fast", playing=("bass", "drums"), bpm=160.0,
             caption="A furious storm of guitars.", vocals=0.9, states=[-1.0, 0.5, 0.1]),
    describe("sad flute.mp3", "classical", mood="sad", playing=("flute",), bpm=None, states=[0.0, -1.0, 0.9]),
]  # fmt: skip
NAMES = [one["audio"] for one in SONGS]


class Meaning:
    """Stands for a sentence encoder: a text about weather is near every other one about weather."""

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        weather = [any(word in one for word in ("storm", "hurricane")) for one in sentences]
        return np.array([[1.0, 0.0] if found else [0.0, 1.0] for found in weather], np.float32)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "music.db"
    write_index(path, SONGS, None)
    return path


@pytest.fixture
def searcher(database: Path) -> Searcher:
    return Searcher(database)


def names(searcher: Searcher, *words: str, **arguments: str) -> list[str]:
    return [hit.audio for hit in searcher.search(*words, **arguments)]


def test_a_query_is_read_as_facts_that_are_wanted_and_denied(searcher: Searcher) -> None:
    query = parse_query("relaxed piano without drums or bass, slow, but no singing and in 4/4", searcher.options)
    assert set(query.wanted) == {("mood:calm",), ("instruments:piano",), ("tempo_class:slow",), ("metre:4/4",)}
    assert set(query.unwanted) == {("instruments:drums",), ("instruments:bass",), ("vocals:yes",)}
    assert query.words == ("relaxed", "piano", "slow", "4", "4") and "drums" not in query.text
    assert parse_query("instrumental", searcher.options).unwanted == (("vocals:yes",),)
    assert parse_query("a woman's voice", searcher.options).wanted == (("vocals:yes",),)
    assert set(parse_query("a female singer", searcher.options).wanted) == {("voice:female",), ("vocals:yes",)}
    assert parse_query("zither", searcher.options).wanted == ()


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [("piano without drums and vocals", {"piano"}, {"drums", "yes"}),
     ("without drums and bass and any singing", set(), {"drums", "bass", "yes"}),
     ("without drums and with piano", {"piano"}, {"drums"}), ("without drums and slow", {"slow"}, {"drums"}),
     ("no drums or vocals", set(), {"drums", "yes"}),
     ("without drums, and bass", {"bass"}, {"drums"}), ("drums and bass", {"drums", "bass"}, set())],
)  # fmt: skip
def test_without_denies_all_that_and_joins(text: str, wanted: set[str], unwanted: set[str]) -> None:
    options = [*(f"instruments:{name}" for name in ("piano", "drums", "bass")), "vocals:yes", "tempo_class:slow"]
    query = parse_query(text, options)
    for groups, expected in ((query.wanted, wanted), (query.unwanted, unwanted)):
        assert {option.partition(":")[2] for group in groups for option in group} == expected
    assert not {"vocals", "singing"} & set(query.words)


def test_words_are_scored_as_fts5_scores_them(tmp_path: Path) -> None:
    texts = ["Calm pianos, calm rain", "a piano", "", "Café drums and drums and drums", "the rain rains"]
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE fts USING fts5(text, tokenize='porter unicode61')")
    connection.executemany("INSERT INTO fts(rowid, text) VALUES (?, ?)", enumerate(texts))
    write_words(connection, texts)
    index = WordIndex(connection, len(texts))
    for query in (["piano"], ["raining"], ["cafe", "drum"], ["calm", "rain", "rain"], ["zither"], ["zither", "calm"]):
        expected = np.zeros(len(texts), np.float32)
        asked = " OR ".join(f'"{word}"' for word in query)
        for number, rank in connection.execute("SELECT rowid, rank FROM fts WHERE fts MATCH ?", (asked,)):
            expected[number] = -rank
        np.testing.assert_allclose(index.score(query), expected, rtol=1e-5, err_msg=asked)
    empty = sqlite3.connect(":memory:")
    write_words(empty, [])
    assert WordIndex(empty, 0).score(["piano"]).shape == (0,)


class Chance:
    """Stands for a sentence encoder: vectors by chance."""

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        return np.random.default_rng(len(sentences[0])).normal(size=(len(sentences), 8)).astype(np.float32) / 3


def test_the_best_are_those_of_all_scores_though_few_captions_are_compared(tmp_path: Path) -> None:
    drawn = random.Random(0)
    songs = [describe(f"{number}.mp3", drawn.choice(GENRES), drawn.uniform(0.3, 0.9), caption=f"Song {number}.")
             for number in range(60)]  # fmt: skip
    write_index(tmp_path / "m.db", songs, Chance())
    searcher = Searcher(tmp_path / "m.db", Chance)
    for words in ("jazz", "calm rock song 7", "nothing known"):
        scores = searcher.score(parse_query(words, searcher.options))
        for limit in (1, 5, 60, 99):
            best = np.argsort(-scores, kind="stable")[:limit]
            hits = searcher.search(words, limit=limit)
            assert [hit.audio for hit in hits] == [f"{number}.mp3" for number in best]
            np.testing.assert_allclose([hit.score for hit in hits], scores[best], rtol=1e-5)


def test_what_is_denied_sinks_and_what_is_wanted_rises(searcher: Searcher) -> None:
    assert names(searcher, "calm piano without drums, slow")[0] == "calm piano.mp3"
    assert names(searcher, "calm music with drums")[0] == "calm drums.mp3"
    assert names(searcher, "furious")[0] == "fast rock.mp3"  # a word of the caption alone
    hit = searcher.search("piano without drums")[0]
    assert hit.facts == {"instruments:piano": 0.9, "instruments:drums": 0.1} and hit.columns["genre"] == "jazz"


def test_meaning_is_searched_where_sentences_were_indexed(tmp_path: Path) -> None:
    write_index(tmp_path / "m.db", SONGS, Meaning())
    assert names(Searcher(tmp_path / "m.db", Meaning), "hurricane")[0] == "fast rock.mp3"


def test_a_missing_sentence_encoder_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_index, "has_encoder", lambda: False)
    with pytest.raises(ImportError, match=r"pip install descant\[search\]"):
        search_index.load_encoder.__wrapped__()


def test_an_index_without_any_caption_is_searched_by_what_there_is(tmp_path: Path) -> None:
    write_index(tmp_path / "m.db", [describe("noise.wav", caption=None)], Meaning())
    assert names(Searcher(tmp_path / "m.db", Meaning), "calm piano") == ["noise.wav"]


def test_a_song_of_which_nothing_is_known_comes_last(tmp_path: Path) -> None:
    noise = describe("noise.wav", caption=None)
    for answer in (*noise["decisions"].pop("instruments").values(), *noise["decisions"].values()):
        answer["reason"] = "noise"
    noise["decisions"]["instruments"] = {}
    write_index(tmp_path / "m.db", [noise, *SONGS], None)
    assert names(Searcher(tmp_path / "m.db"), "furious piano without drums")[-1] == "noise.wav"


def test_likeness_goes_by_audio_states_or_else_by_what_was_decided(searcher: Searcher, tmp_path: Path) -> None:
    assert names(searcher, like="calm piano.mp3") == ["calm drums.mp3", "sad flute.mp3", "fast rock.mp3"]
    write_index(tmp_path / "m.db", [*SONGS[:3], {k: v for k, v in SONGS[3].items() if k != "states"}], None)
    assert names(Searcher(tmp_path / "m.db"), like="calm piano.mp3")[0] == "calm drums.mp3"
    with pytest.raises(ValueError, match="is not in the index"):
        searcher.search(like="unknown.mp3")


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("genre = 'jazz' and bpm < 100", NAMES[:2]), ("drums > 0.5", NAMES[1:3]),
        ("vocals < 0.2 and bpm is null", NAMES[3:]),
        ("audio like '%rock%' or (mood in ('sad'))", NAMES[2:]), ("lower(genre) = ')' or 1", NAMES),
        ("key = 'x;--'", []),
        ("abs(bpm - 160) between 0 and 1", NAMES[2:3]),
    ],
)  # fmt: skip
def test_conditions_choose(searcher: Searcher, condition: str, found: list[str]) -> None:
    assert sorted(names(searcher, where=condition)) == sorted(found)


@pytest.mark.parametrize(
    "condition",
    [
        "1; DROP TABLE tracks", "1) UNION SELECT id FROM songs --", "1) OR (1", "(1", "", "1 -- x", "1 /* x */", "?",
        "id IN (SELECT id FROM tracks)", "id IN (SELECT rowid FROM songs)", "EXISTS (SELECT 1)", "randomblob(9)",
        "'open", "load_extension('x')", "zeroblob(1000000000)", "path = 'x'", "[id] = 1", "1 " + "or 1 " * 1000,
        "nothing = 1", "genre = char(0)", "printf('%s', id)", "PRAGMA writable_schema", "sqlite_version() = ''",
        "id = :a", "`id`",
    ],
)  # fmt: skip
def test_anything_but_one_expression_over_tracks_is_refused(searcher: Searcher, condition: str) -> None:
    with pytest.raises(ValueError, match="--where"):
        searcher.search(where=condition)
    assert len(names(searcher, "jazz")) == 4  # and the connection goes on


def test_the_connection_cannot_write_at_all(searcher: Searcher, database: Path) -> None:
    before = database.read_bytes()
    for statement in ("DELETE FROM tracks", "CREATE TABLE x (a)", "INSERT INTO about VALUES ('a', 'b')"):
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            searcher.connection.execute(statement)
    assert database.read_bytes() == before


def test_a_condition_without_end_is_stopped(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("descant.collections.query.MOST_STEPS", 0)
    monkeypatch.setattr("descant.collections.query.STEPS_AT_ONCE", 1)
    with pytest.raises(ValueError, match="interrupted"):
        select_ids(searcher.connection, "id > 0")


def test_a_song_counts_once_and_odd_names_are_kept(tmp_path: Path) -> None:
    odd = [describe("caf\udce9.mp3"), describe("caf\udce9.mp3", "rock"), describe('"; DROP.mp3')]
    write_index(tmp_path / "m.db", odd, None)
    searcher = Searcher(tmp_path / "m.db")
    hits = searcher.search(where="1")
    assert searcher.find("caf\udce9.mp3") == 0 and not searcher.holds("no\udce9.mp3")
    assert [(hit.audio, hit.columns["genre"]) for hit in hits] == [("caf\\udce9.mp3", "rock"), ('"; DROP.mp3', "jazz")]


def test_a_hit_is_shown_on_a_line_whatever_its_file_is_called() -> None:
    assert format_hit(Hit("a", "/a\nb.mp3", 0.5, None, {}, {})) == "0.500  /a\\nb.mp3"


def test_a_playlist_holds_the_paths(searcher: Searcher, tmp_path: Path) -> None:
    hits = searcher.search("calm", limit=2)
    broken = hits[0].__class__("a", "a\n#b", 1.0, None, {"duration_s": 1}, {})
    assert write_playlist(tmp_path / "p.m3u", [*hits, broken]) == [broken]
    lines = (tmp_path / "p.m3u").read_text().splitlines()
    assert lines[0] == "#EXTM3U" and lines[1].startswith("#EXTINF:30,calm")
    assert lines[2::2] == [one.path for one in hits]


def test_files_that_are_no_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such index"):
        Searcher(tmp_path / "m.db")
    for content in (b"no database at all", b""):
        (tmp_path / "m.db").write_bytes(content)
        with pytest.raises(ValueError, match="is no index of descant"):
            Searcher(tmp_path / "m.db")


def test_an_index_that_cannot_be_written_or_is_damaged_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.jsonl").write_text("".join(json.dumps(one) + "\n" for one in SONGS))
    assert cli.main(["index", "d.jsonl", "--plain"]) == 0
    whole = Path("music.db").read_bytes()
    Path("music.db").write_bytes(whole[:20480].ljust(len(whole), b"\1"))  # without its words
    assert cli.main(["search", "piano"]) == 2
    assert "music.db: is damaged (database disk image is malformed): make it again with" in capsys.readouterr().err
    monkeypatch.setattr(search_index, "load_encoder", lambda: pytest.fail("no work is begun"))
    assert cli.main(["index", "d.jsonl", "--database", "."]) == 2 and "is a folder" in capsys.readouterr().err
    monkeypatch.setattr(search_index, "_create", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    assert cli.main(["index", "d.jsonl", "--plain", "--database", "new.db"]) == 1
    assert capsys.readouterr().err == "descant index: new.db: no such table: about\n" and not Path("new.db").exists()


def test_the_commands_index_and_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.jsonl").write_text("".join(json.dumps(one) + "\n" for one in SONGS) + "{}\n")
    monkeypatch.setattr(search_index, "has_encoder", lambda: False)
    assert cli.main(["index", "d.jsonl"]) == 1
    shown = capsys.readouterr()
    assert "music.db: 4 songs by words and facts, 1 left out" in shown.out
    assert "d.jsonl:5: is no description" in shown.err
    assert cli.main(["index", "d.jsonl", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "database": "music.db", "songs": 4, "sentences": False, "left_out": 1
    }  # fmt: skip
    assert cli.main(["search", "sad flute", "--json", "--limit", "1", "--m3u", "p.m3u"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["audio"] == "sad flute.mp3" and record["facts"]["mood:sad"] == 0.8 and Path("p.m3u").exists()
    assert cli.main(["search", "--where", "genre = 'polka'"]) == 0 and "no song fits" in capsys.readouterr().out
    assert cli.main(["search", "calm piano", "--limit", "1"]) == 0 and "piano 90 %" in capsys.readouterr().out
    assert cli.main(["search"]) == 2 and cli.main(["search", "--where", "1;"]) == 2
    assert cli.main(["search", "piano", "--model", "box"]) == 2 and "without --like" in capsys.readouterr().err


def test_a_song_outside_the_index_is_heard_by_the_model_that_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search_index, "has_encoder", lambda: False)
    monkeypatch.setattr(description, "measure", lambda path: None)
    save_tiny_decider(Path("model"))
    for name, hertz in {"music/low.wav": 110.0, "music/high.wav": 440.0, "new.wav": 112.0}.items():
        Path(name).parent.mkdir(exist_ok=True)
        write_song(Path(name), 10.0, 16_000, hertz)
    soundfile.write("silence.wav", np.zeros(160_000), 16_000)
    assert cli.main(["describe", "music", "--model", "model", "--output", "d.jsonl", "--states"]) == 0
    assert cli.main(["index", "d.jsonl"]) == 0
    for like, nearest in (("new.wav", "music/low.wav"), ("music/high.wav", "music/low.wav")):
        capsys.readouterr()
        assert cli.main(["search", "--like", like, "--limit", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["audio"] == nearest
    save_tiny_model(Path("other"), seed=1)
    Path("model").rename("kept")
    shutil.copytree("other", "model")
    for option, said in (
        ([], "music.db: was made by another model than model: name that one as --model"),
        (["--model", "other"], "another model than other"),
    ):
        assert cli.main(["search", "--like", "new.wav", *option]) == 2 and said in capsys.readouterr().err
    shutil.rmtree("model")
    Path("kept").rename("model")
    for like, said in (("gone.wav", "gone.wav: does not exist"), ("silence.wav", "no music is heard in it")):
        assert cli.main(["search", "--like", like]) == 2 and said in capsys.readouterr().err
    Path("d.jsonl").write_text("".join(json.dumps(one) + "\n" for one in SONGS))
    assert cli.main(["index", "d.jsonl"]) == 0 and cli.main(["search", "--like", "new.wav"]) == 2
    assert "which model made music.db cannot be said" in capsys.readouterr().err


def test_decisions_are_compared_where_there_are_no_states(tmp_path: Path) -> None:
    plain = [{k: v for k, v in one.items() if k != "states"} for one in SONGS]
    write_index(tmp_path / "m.db", plain, None)
    like = describe("fast pop.mp3", "rock", mood="tense", tempo="fast", playing=("drums",), vocals=0.8)
    assert names(Searcher(tmp_path / "m.db"), like=like)[0] == "fast rock.mp3"


def test_instruments_of_like_names_share_a_column(tmp_path: Path) -> None:
    odd = describe("a.mp3")
    odd["decisions"]["instruments"] |= {"Piano": odd["decisions"]["instruments"]["piano"], "bpm": {**SONGS[0][
        "decisions"]["instruments"]["piano"]}, "!": odd["decisions"]["instruments"]["drums"]}  # fmt: skip
    write_index(tmp_path / "m.db", [odd], None)
    (hit,) = Searcher(tmp_path / "m.db").search(where="piano > 0.8 and unnamed < 0.2 and bpm = 92")
    assert hit.audio == "a.mp3"
