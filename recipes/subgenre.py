"""Subgenres of tracks from their lyrics, a captioner's words about them and its audio embedding.

    accelerate launch recipes/subgenre.py --dataset TRACKS --captioner MODEL
    accelerate launch recipes/subgenre.py --demo

TRACKS is a folder or a table of tracks with labels; MODEL is any model that answers questions about music. What it
says is cached under `--features`. The table at the end sets fusion beside single modalities and plain systems on the
test split. The demo's captioner is the model in the box.
"""

from descant.subgenre import SubgenreRecipe, train_subgenres

RECIPE = SubgenreRecipe(
    name="subgenre",
    questions=(
        "What is the genre of this song?",
        "What is the subgenre of this piece?",
        "Which instruments make up the band?",
        "What is the tempo of this song?",
        "What mood does this put you in?",
        "How are the beats of a bar grouped?",
    ),
    settings={"learning_rate": 1e-3},
    demo={
        "captioner": "box",
        "text_layers": 0,
        "text_hidden_size": 96,
        "hidden_size": 96,
        "num_train_epochs": 36,
        "per_device_train_batch_size": 15,
        "learning_rate": 3e-3,
        "dropout": 0.2,
        "audio_hidden_size": 256,
        "audio_dropout": 0.5,
        "token_dropout": 0.2,
        "save_epochs": 36,
        "eval_epochs": 36,
    },
)

if __name__ == "__main__":
    train_subgenres(RECIPE)
