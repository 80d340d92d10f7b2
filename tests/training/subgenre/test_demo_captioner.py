"""The demo's captioner: trained once, on the demo's own training clips, beside the run's model."""

from pathlib import Path

from tiny_tracks import read_settings

from descant.training.subgenre import demo_captioner
from descant.training.subgenre.demo_captioner import train_demo_captioner


def test_it_is_trained_once_with_the_runs_seed_and_features(tmp_path, monkeypatch):
    trained = []

    def train(recipe, settings) -> None:
        trained.append(settings)
        Path(settings.output_dir).mkdir(parents=True)
        (Path(settings.output_dir) / "README.md").touch()

    monkeypatch.setattr(demo_captioner, "run", train)
    settings = read_settings(tmp_path, "--demo", "--seed", "7")
    folder = train_demo_captioner(settings)
    assert train_demo_captioner(settings) == folder == str(tmp_path / "run" / "captioner")
    (one,) = trained
    assert (one.dataset, one.seed, one.features, one.report) == ("demo", 7, settings.features, False)
    assert one.num_train_epochs == demo_captioner.RECIPE.demo["num_train_epochs"]
