"""Scores that papers report, to stand beside a table of ours; they compare only on the same data and protocol.

LP-MusicCaps (Doh et al. 2023), on the 2,839 clips of MusicCaps' evaluation split that were still online. Their
BERTScore is roberta-large's.
"""

BERTSCORE = "bertscore_f1_roberta-large_L17_no-idf"
NAMES = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rougeL", BERTSCORE)
ROWS = {
    "LP-MusicCaps transfer": (0.2909, 0.1487, 0.0893, 0.0605, 0.2239, 0.2149, 0.8778),
    "LP-MusicCaps supervised": (0.2851, 0.1376, 0.0759, 0.0479, 0.2062, 0.1922, 0.8705),
    "LP-MusicCaps zero-shot pretrain": (0.1977, 0.0670, 0.0217, 0.0079, 0.1288, 0.1303, 0.8451),
}
PUBLISHED = {"lp_musiccaps": {name: dict(zip(NAMES, values, strict=True)) for name, values in ROWS.items()}}
PUBLISHED_DATA = "MusicCaps, captions, test"
