"""The soundfonts, and in which split each is used."""

from pathlib import Path

FOLDERS = (Path("/usr/share/sounds/sf3"), Path("/usr/share/sounds/sf2"))
# Debian package and licence of each. Sound rendered with the copyleft ones is for validation and test, never training.
SOUNDFONTS = {
    "FluidR3Mono_GM.sf3": ("fluidr3mono-gm-soundfont", "MIT"),
    "FluidR3_GM.sf2": ("fluid-soundfont-gm", "MIT"),
    "MuseScore_General_Lite.sf3": ("musescore-general-soundfont-small", "MIT"),
    "TimGM6mb.sf2": ("timgm6mb-soundfont", "GPL-2"),
    "OPL-3_FM_128M.sf2": ("opl3-soundfont", "CC-BY-SA-4.0"),
}
FREE = tuple(name for name, (_, licence) in SOUNDFONTS.items() if licence == "MIT")
SOUNDFONTS_OF = {
    "train": FREE,
    "validation": (*FREE, "TimGM6mb.sf2"),
    "test": (*FREE, "TimGM6mb.sf2", "OPL-3_FM_128M.sf2"),
}


def soundfont_path(name: str) -> Path:
    """Return where Debian's package puts a soundfont; raises FileNotFoundError with the package's name."""
    for folder in FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name}: not installed; apt-get install {SOUNDFONTS[name][0]}")
