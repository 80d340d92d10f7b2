"""Captions of whole recordings, out of the answers to five questions about each of their windows of ten seconds.

    accelerate launch recipes/captions_from_qa.py --checkpoint MODEL --audio FOLDER --output captions.csv

FOLDER holds sound files, or the reference's .npy waveforms. Every answer is in captions.jsonl, with its window in
seconds; captions.csv joins those of a recording. A file that cannot be read, a silent window and a question that fails
are named and skipped (exit status 1); a path that a spreadsheet would take for a formula begins with `./` there.
After a kill, the same command answers only what is missing. Answers are known by the paths in FOLDER: other recordings
need another --output. Several processes share the files and write the same answers (in fp32; with sampling, other
draws): accelerate launch --config_file accelerate_configs/ddp.yaml …
"""

import sys

from descant.program import loading_to_stay, run_program

# The five topics of the reference: instruments, rhythm, mood, course, influences.
QUESTIONS = (
    "Which instruments do you hear, and are they acoustic or electronic?",
    "How would you describe the rhythm and the tempo?",
    "What mood does the music set, and which theme does it suggest?",
    "How does the music develop as it goes on?",
    "Which cultures or musical styles have shaped this music?",
)


def main() -> int:
    """Answer the questions about every window, and join the answers to captions."""
    with loading_to_stay():
        from descant.answering.collection import caption_collection

    return caption_collection(QUESTIONS, num_beams=10)


if __name__ == "__main__":
    sys.exit(run_program("captions_from_qa", main))
