"""The parts of the page as HTML: a track's picture with its windows, its description, the answers about it.

All that users or models gave goes through `escape`; numbers are formatted here.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from descant.answering.answers import REASONS
from descant.answering.evidence import Evidence
from descant.data.audio import format_stamp
from descant.doors.answers import Answered, Decided, Track
from descant.models.lp_music_caps.track_music import state

PICTURE_RATE, PICTURE_SIZE = 16_000, (960, 96)  # Hz of the waveform; columns and bands
OPTIONS_SHOWN = 4  # of a question
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300)  # seconds between the marks under a picture
MOST_TICKS = 8
TITLES = {
    "genre": "Genre", "mood": "Mood", "energy": "Energy", "tempo_class": "Tempo", "metre": "Metre", "voice": "Voice",
    "vocals": "Singing", "electronic": "Sound",
}  # fmt: skip


def draw_picture(waveform: np.ndarray) -> bytes:
    """Return the spectrum of a mono waveform (samples,) at 16 kHz over time, as PNG."""
    from descant.collections.report import draw_levels, to_png

    return to_png(draw_levels(waveform, *PICTURE_SIZE))


# The track


def show_track(track: Track) -> str:
    """Return the picture of a track, with a button for each window that is heard and the time below."""
    source = f"data:image/png;base64,{base64.b64encode(track.picture).decode()}"
    windows = "".join(show_window(start, end, track.duration_s) for start, end in track.heard)
    seconds = track.duration_s
    ticks = "".join(f'<span style="left:{percent(at, seconds)}">{clock(at)}</span>' for at in place_ticks(seconds))
    return (
        f'<section class="dc-track" data-duration="{track.duration_s:.3f}" aria-label="The track over time">'
        f'<div class="dc-picture"><img src="{source}" alt="Spectrogram: time from left to right, high tones on top">'
        f'<div class="dc-evidence" aria-hidden="true"></div>{windows}'
        '<div class="dc-playhead" aria-hidden="true"></div></div>'
        f'<div class="dc-ticks" aria-hidden="true">{ticks}</div>'
        f'<p class="dc-note dc-legend">{count_windows(track)} Click one to hear it.</p>'
        '<p class="dc-note dc-shows" hidden><b></b> Where the answer comes from: <span></span></p></section>'
    )


def count_windows(track: Track) -> str:
    """Return how much of a track is heard, in words."""
    windows = len(track.heard)
    covered = sum(end - start for start, end in track.heard)
    if covered >= track.duration_s - 0.5:
        return "All of it is heard" + (f", in {windows} windows." if windows > 1 else ".")
    return f"{windows} windows are heard, spread over the track." if windows > 1 else "One window is heard."


def show_window(start_s: float, end_s: float, duration_s: float) -> str:
    """Return the button that plays a window."""
    stamp = format_stamp(round(start_s, 1), round(end_s, 1))
    left, width = percent(start_s, duration_s), percent(end_s - start_s, duration_s)
    return (
        f'<button type="button" class="dc-window" data-start="{start_s:.3f}" data-end="{end_s:.3f}" title="{stamp}" '
        f'aria-label="Play {stamp}" style="left:{left};width:{width}"><span>{stamp}</span></button>'
    )


def percent(part: float, whole: float) -> str:
    """Return a share as CSS takes it, from 0 to 100 %."""
    return f"{100 * min(max(part / whole, 0.0), 1.0):.2f}%" if whole > 0 else "0%"


def clock(seconds: float) -> str:
    """Return minutes and seconds, `1:05`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def place_ticks(duration_s: float) -> list[float]:
    """Return where time is written under a picture, in seconds: at most eight marks and the beginning."""
    step = next((one for one in TICKS if duration_s / one <= MOST_TICKS), duration_s / MOST_TICKS)
    return list(np.arange(0, duration_s - step / 3, step))


# The description


def show_description(description: Mapping[str, Any]) -> str:
    """Return a description: its sentence, and bars for what is decided, without what the model was not trained on."""
    decisions = description["decisions"]
    cards = [
        card(TITLES.get(name, name), answer)
        for name, answer in decisions.items()
        if name != "instruments" and not answer.get("reason")
    ]
    playing = {name: one["noul"] for name, one in decisions["instruments"].items() if not one.get("reason")}
    if playing:
        ranked = sorted(playing.items(), key=lambda pair: -pair[1])
        rows = "".join(bar(name, share, share >= 0.5) for name, share in ranked)
        cards.append(f'<div class="dc-card dc-wide"><h3>Instruments</h3><div class="dc-columns">{rows}</div></div>')
    caption = description["caption"]
    said = f'<p class="dc-caption">{escape(caption["text"])}</p>' if caption else ""
    if not cards:
        reason = REASONS.get(str(decisions["genre"].get("reason")), "nothing")
        said = f'<p class="dc-caption">{escape(reason[:1].upper() + reason[1:])}.</p>'
    return (
        f'<section class="dc-description" aria-label="Description"><h2>What it hears</h2>{said}'
        f'{show_measured(description["measured"])}<div class="dc-cards">{"".join(cards)}</div></section>'
    )


def show_measured(measured: Mapping[str, Any] | None) -> str:
    """Return what signal processing measured, on one line."""
    if not measured:
        return ""
    from descant.answering.description import format_measured

    return f'<p class="dc-note">Measured: {escape(format_measured(measured))}</p>'


def card(title: str, answer: Mapping[str, Any]) -> str:
    """Return a typed answer with a bar for each of its likeliest options."""
    text, _ = state(answer)
    said = escape(text) if answer["sure"] else f"not sure <small>({escape(text)}?)</small>"
    against = ", ".join(answer.get("contradicts", ()))
    note = f'<p class="dc-note">contradicts {escape(against)}</p>' if against else ""
    return f'<div class="dc-card"><h3>{escape(title)} <b>{said}</b></h3>{bars(list_options(answer))}{note}</div>'


def list_options(answer: Mapping[str, Any]) -> dict[str, float]:
    """Return the probability of each option of a typed answer, in the words that a person uses."""
    if answer["type"] == "noul":
        return {"yes": answer["noul"], "no": 1 - answer["noul"]}
    legend = answer.get("legend") or {}
    return {str(legend.get(key, key)): share for key, share in answer["probabilities"].items()}


def bars(shares: Mapping[str, float]) -> str:
    """Return a bar for each of the likeliest options, and how much is left for the others, if one of all is meant."""
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    rows = [bar(name, share, place == 0) for place, (name, share) in enumerate(ranked[:OPTIONS_SHOWN])]
    others = ranked[OPTIONS_SHOWN:]
    if others and sum(shares.values()) < 1.01:  # instruments are heard beside each other
        name = f"{len(others)} others" if len(others) > 1 else others[0][0]
        rows.append(bar(name, max(0.0, sum(share for _, share in others)), False))
    return "".join(rows)


def bar(name: str, share: float, best: bool) -> str:
    """Return one bar with its name and its probability in per cent."""
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}%"
    return (
        f'<div class="dc-bar{" dc-best" if best else ""}"><span title="{escape(name)}">{escape(name)}</span>'
        f'<i><u style="width:{width}"></u></i><em>{100 * share:.0f} %</em></div>'
    )


# The conversation


def show_turn(question: str, parts: Iterable[str]) -> str:
    """Return one question with what is said to it, which is HTML already."""
    asked = escape(question) or "Describe it in a sentence."
    return f'<li class="dc-turn"><p class="dc-question">{asked}</p>{"".join(parts)}</li>'


def show_evidence(evidence: Evidence) -> str:
    """Return the seconds that an answer rests on, in words and as what the script draws over the track."""
    spans = mark_spans(evidence)
    if not spans:
        return '<p class="dc-note">No second stands out: it rests on all that is heard.</p>'
    drawn = escape(json.dumps(spans))
    return (
        f'<p class="dc-note">Rests most on {escape(evidence.to_text())}. '
        f'<button type="button" class="dc-show" data-evidence="{drawn}">Show on the track</button></p>'
    )


def mark_spans(evidence: Evidence) -> list[list[float]]:
    """Return spans that count for an answer as [start_s, end_s, share of the strongest one, 1 where it stands out].

    Windows whose seconds were not tried count as a whole, lightly: they are drawn with half of their share.
    """
    strongest = evidence.strongest
    if not strongest:
        return []
    most = max(span.drop for span in evidence.spans)
    tried = [(span.start_s, span.end_s) for span in evidence.spans]
    whole = [one for one in evidence.windows if not any(one.start_s <= at < one.end_s for at, _ in tried)]
    rows = [(one, one.drop / most / 2, 0) for one in whole]
    for span in evidence.spans:
        outstanding = any(one.start_s <= span.start_s < one.end_s for one in strongest)
        rows.append((span, span.drop / most, int(outstanding)))
    return [[round(one.start_s, 2), round(one.end_s, 2), round(min(share, 1.0), 3), mark]
            for one, share, mark in rows if share > 0.03]  # fmt: skip


def show_answered(answered: Answered) -> Iterator[str]:
    """Yield the parts of an answer: the sentence, bars where its probabilities are known, what it rests on."""
    yield f'<p class="dc-answer">{escape(answered.answer)}</p>'
    if answered.probabilities:
        yield bars(answered.probabilities)
    elif answered.confidence is not None and answered.of is not None:
        share = f"{answered.windows} of {answered.of} windows say so" if answered.of > 1 else "one window"
        yield f'<p class="dc-note">{share}: {stamps(answered.heard)}</p>'


def show_decided(decided: Decided) -> Iterator[str]:
    """Yield the parts of a decision between options."""
    if decided.reason:
        said = REASONS.get(decided.reason, decided.reason)
    else:
        said = decided.option if decided.sure else f"not sure: {decided.option}?"
    yield f'<p class="dc-answer">{escape(said[:1].upper() + said[1:])}</p>'
    if not decided.reason:
        yield bars(decided.probabilities)


def stamps(spans: Sequence[Sequence[float]]) -> str:
    """Return spans in seconds as `0:00–0:10, 0:20–0:30`."""
    return ", ".join(format_stamp(*span) for span in spans)


def show_conversation(turns: Sequence[str]) -> str:
    """Return all turns, the newest first."""
    return f'<ol class="dc-turns" aria-live="polite">{"".join(reversed(turns))}</ol>' if turns else ""


def show_refusal(sentence: str) -> str:
    """Return why something is not shown or answered."""
    return f'<p class="dc-refusal" role="alert">{escape(sentence)}</p>'
