"""The embedded demo corpus: real instrument sounds with known facts."""

from descant.data.demo.corpus import (
    CORPUS_VERSION,
    SPLITS,
    TEST_SHA256,
    TRACKS_SHA256,
    demo_dir,
    facts,
    hash_test_splits,
    hash_tracks,
    load_demo,
    verify_manifest,
)

__all__ = [
    "CORPUS_VERSION", "SPLITS", "TEST_SHA256", "TRACKS_SHA256", "demo_dir", "facts",
    "hash_test_splits", "hash_tracks", "load_demo", "verify_manifest",
]  # fmt: skip
