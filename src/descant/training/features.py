"""The features a run reads: those in the store, and those of clips that are not in it yet."""

import logging
from collections.abc import Iterable

from transformers import FeatureExtractionMixin

from descant.data.extraction import extract_features
from descant.data.feature_store import FeatureStore
from descant.data.publishing import import_features
from descant.data.sources import Corpus, SplitRows
from descant.publish.hub import NetworkError

log = logging.getLogger(__name__)


def prepare_features(corpus: Corpus, extractor: FeatureExtractionMixin, root: str) -> FeatureStore:
    """Open the store under `root` with the corpus's features in it.

    Those of clips without sound are fetched, if any is missing and they were published; those that are missing, or are
    of another sound under the same clip id, are computed. Clips that fail are named in the log.
    """
    store = FeatureStore(root, extractor.to_dict())
    if any(clip_id not in store and clip_id not in corpus.audio for clip_id in _clips(corpus.configs)):
        fetch_features(corpus, store)
        store.refresh()
    extract_features(corpus.audio, extractor, store, recheck=True, progress=True)
    store.refresh()
    return store


def fetch_features(corpus: Corpus, store: FeatureStore) -> None:
    """Fill the store from a dataset that was published with its features; why it cannot be is named in the log."""
    try:
        import_features(corpus.id, store.root, store.settings)
    except (ValueError, NetworkError, ConnectionError) as error:
        log.warning("no features were fetched: %s", error)


def keep_heard(configs: dict[str, SplitRows], store: FeatureStore) -> dict[str, SplitRows]:
    """The rows whose clip has features; how many are left out is logged.

    Raises:
        ValueError: no training row is left.
    """
    kept = {
        config: {split: [row for row in rows if row.clip_id in store] for split, rows in splits.items()}
        for config, splits in configs.items()
    }
    lost = _clips(configs) - _clips(kept)
    if lost:
        log.warning("%d clips have no features and are left out, %s first", len(lost), min(lost))
    if not any(splits.get("train") for splits in kept.values()):
        raise ValueError(
            f"no clip of the training split has features in {store.root}: pass --audio_dir with the clips' audio, or "
            "--features with the store that `descant features` wrote"
        )
    return kept


def _clips(configs: dict[str, SplitRows]) -> set[str]:
    rows: Iterable = (row for splits in configs.values() for part in splits.values() for row in part)
    return {row.clip_id for row in rows}
