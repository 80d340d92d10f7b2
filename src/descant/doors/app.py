"""The page on which a model listens to a track and is asked about it, its API and its MCP tools: `descant app`.

Gradio gives the page and carries the calls; what is answered, and within which limits, is the `Studio`'s. `PageGate`
stands before Gradio, lets in its routes only, and sends pages that may fetch nothing from elsewhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial, wraps
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

try:
    import gradio as gr
    import mcp  # noqa: F401 - without it gradio starts, and fails when it builds the tools
    from fastapi import FastAPI
    from gradio.utils import get_upload_folder
except ImportError as error:
    raise ImportError(f"{error}; the page takes: pip install 'descant[app]'") from error

from descant.data.audio import load_audio
from descant.data.demo.corpus import demo_dir
from descant.doors import drawing
from descant.doors.answers import Answered, Decided, Described
from descant.doors.page_gate import KEPT_S
from descant.doors.requests import AUDIO, Refusal
from descant.doors.studio import Studio

# Embedded clips that an example joins to one track: without drums, with them, without, with.
EXAMPLE = ("d3y2catutfz", "d3etnhmr7mc", "dhjpe5qedvs", "d6qm5r4qsp6")
EXAMPLE_RATE = 32_000
SUGGESTED = ("What is the genre?", "Are there drums?", "What is the mood?", "Which instruments are heard?")
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # of the reader's own machine
LOOKED_AT_S = 600  # how often gradio looks for uploads that are too old
ALONE = "Each question is answered by itself, about this track: earlier questions and answers are not part of it."
LISTENING = '<p class="dc-note dc-waiting">Listening …</p>'
LOOKING = '<p class="dc-note dc-waiting">Looking where it comes from …</p>'
UPLOADED = "/gradio_api/file="  # in the address of a file that was uploaded here


def write_example(folder: Path) -> Path:
    """Write four clips of the embedded corpus, one behind the other, as a track of 40 s."""
    import soundfile

    found = [next((demo_dir() / "audio").glob(f"*{clip}*")) for clip in EXAMPLE]
    path = folder / "four pieces.flac"
    soundfile.write(path, np.concatenate([load_audio(clip, EXAMPLE_RATE) for clip in found]), EXAMPLE_RATE)
    return path


# The API and the tools


class Refused(gr.Error):
    """A refusal as gradio passes it on, which prints no traceback and is no more than its sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(escape(sentence), print_exception=False)

    def __str__(self) -> str:
        return str(self.message)


def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose refusals gradio passes on."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Refusal as error:
            raise Refused(str(error)) from None

    return call


class Tools:
    """What programs and agents call: typed, and documented for them."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def ask(self, audio: gr.FileData, question: str) -> Answered:
        """Listen to a music recording and answer one question about how it sounds.

        The answer stands for the whole recording. Questions about genre, mood, tempo and the like come with a
        probability for each option; "Not sure" and "No music heard" are answers. Each question is answered by itself.

        Args:
            audio: the recording: a data: URL in base64, or the address of a file that was uploaded here.
            question: one question in English, such as "Are there drums?"; an empty one asks for a description.
        """
        return self.studio.ask(find_upload(audio), question)

    def decide(self, audio: gr.FileData, question: str, options: list[str] | None = None) -> Decided:
        """Listen to a music recording and decide between given options, with a probability for each.

        Args:
            audio: the recording: a data: URL in base64, or the address of a file that was uploaded here.
            question: what is decided, such as "What is the genre?".
            options: two or more answers to choose from; without them the question is one of yes or no.
        """
        return self.studio.decide(find_upload(audio), question, options)

    def describe(self, audio: gr.FileData) -> Described:
        """Listen to a music recording and describe it: a sentence, genre, mood, tempo, voice and instruments.

        Every decision has a probability for each option, and says whether it is sure.

        Args:
            audio: the recording: a data: URL in base64, or the address of a file that was uploaded here.
        """
        return self.studio.describe(find_upload(audio))

    def list_functions(self) -> list[Callable[..., Any]]:
        """Return the three functions, whose refusals gradio passes on."""
        return [refusing(one) for one in (self.ask, self.decide, self.describe)]


def find_upload(audio: Any) -> str:
    """Return the path of a file that was uploaded here, as gradio names one; raises Refusal for any other."""
    path = audio.get("path") if isinstance(audio, dict) else audio
    if not isinstance(path, str):
        raise Refusal(400, f"{AUDIO}: is missing: give a recording")
    if not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise Refusal(400, f"{AUDIO}: is no file that was uploaded here")
    return path


def keep_to_uploads(block: Any, example: Path) -> None:
    """Let a component of gradio take uploaded files and the example only.

    By itself it fetches what any address holds, and copies any file of this machine to where uploads lie: gradio
    checks paths in programs that it launched itself alone.
    """
    move = block.async_move_resource_to_block_cache

    async def take(path: str | Path | None) -> str | None:
        if path is not None and str(path).startswith(("http://", "https://")):
            _, found, name = str(path).partition(UPLOADED)
            if not found:
                raise Refused(f"{AUDIO}: no address is fetched: give a data: URL, or upload the file")
            path = unquote(name)
        try:
            return await move(path if path is None or str(path) == str(example) else find_upload(str(path)))
        except Refusal as error:
            raise Refused(str(error)) from None

    block.async_move_resource_to_block_cache = take


# The page


@dataclass
class Parts:
    """The components of the page that events read and change."""

    sound: Any
    try_it: Any
    track: Any
    below: Any
    description: Any
    question: Any
    options: Any
    suggested: list[Any]
    conversation: Any
    visit: Any


def build_page(studio: Studio, example: Path) -> Any:
    """Return the page as gradio's Blocks, with the API."""
    with gr.Blocks(title="descant", analytics_enabled=False, delete_cache=(LOOKED_AT_S, int(KEPT_S))) as page:
        connect(lay_out(studio.name), studio, example)
        for function in Tools(studio).list_functions():
            gr.api(function, api_name=function.__name__, queue=False)
    for block in page.blocks.values():
        keep_to_uploads(block, example)
    return page.queue(max_size=studio.limits.requests, default_concurrency_limit=studio.limits.requests)


def lay_out(name: str) -> Parts:
    """Place the components of the page: the track above, its description beside the questions below."""
    gr.HTML(show_head(name))
    sound = gr.Audio(
        sources=["upload", "microphone"], type="filepath", label="Track", show_label=False, buttons=[],
        editable=False, elem_id="dc-sound", waveform_options=gr.WaveformOptions(show_recording_waveform=False),
    )  # fmt: skip
    try_it = gr.Button("No track at hand? Try an example", size="sm", elem_id="dc-example")
    track = gr.HTML(elem_id="dc-track")
    with gr.Row(elem_id="dc-below", visible=False) as below:
        with gr.Column(scale=5, min_width=300):
            description = gr.HTML(elem_id="dc-description")
        with gr.Column(scale=4, min_width=300, elem_id="dc-asking"):
            asking = lay_out_questions()
    return Parts(sound, try_it, track, below, description, *asking, gr.State(Visit()))


def lay_out_questions() -> tuple[Any, Any, list[Any], Any]:
    """Place what asks and answers."""
    gr.HTML("<h2>Ask about it</h2>")
    question = gr.Textbox(
        placeholder="Ask how it sounds", show_label=False, container=False, lines=1, max_lines=3,
        submit_btn="Ask", elem_id="dc-question",
    )  # fmt: skip
    options = gr.Textbox(
        placeholder="Options, if you like: rock, jazz, folk", show_label=False, container=False, lines=1,
        max_lines=1, elem_id="dc-options",
    )  # fmt: skip
    with gr.Row(elem_id="dc-suggested"):
        suggested = [gr.Button(text, size="sm", min_width=80) for text in SUGGESTED]
    conversation = gr.HTML(elem_id="dc-conversation")
    gr.HTML(f'<p class="dc-note">{ALONE}</p>')
    return question, options, suggested, conversation


def connect(parts: Parts, studio: Studio, example: Path) -> None:
    """Let the page answer to what a reader does; none of it is part of the API."""
    hidden: dict[str, Any] = {"api_visibility": "private"}
    quiet = hidden | {"show_progress": "hidden"}
    several = quiet | {"trigger_mode": "multiple"}
    parts.try_it.click(lambda: str(example), None, parts.sound, **hidden)
    changed = [parts.track, parts.below, parts.description, parts.conversation, parts.visit, parts.try_it]
    given = [parts.sound, parts.visit]
    opened = parts.sound.change(partial(open_track, studio), given, changed, **hidden)
    opened.success(partial(describe_track, studio), given, parts.description, **quiet)
    answered = [parts.conversation, parts.visit, parts.question]
    ask = partial(converse, studio)
    asked = [
        box.submit(ask, [parts.visit, parts.question, parts.options], answered, **several)
        for box in (parts.question, parts.options)
    ] + [
        button.click(partial(ask, question=text, options=""), parts.visit, answered, **several)
        for button, text in zip(parts.suggested, SUGGESTED, strict=True)
    ]
    for event in asked:
        event.then(partial(explain_turns, studio), parts.visit, parts.conversation, **several)


def show_head(name: str) -> str:
    """Return the head of the page."""
    return (
        '<header class="dc-head"><h1>descant</h1><p>Give it a track. It describes what it hears, answers questions, '
        f"and shows where in time its answers come from. <span>Model: {escape(name)}</span></p></header>"
    )


# What a reader does


@dataclass
class Turn:
    """One question about a track, and what is shown of its answer, as HTML.

    unexplained: the options of a typed answer whose seconds are still to be found; None for any other.
    """

    question: str
    parts: list[str]
    unexplained: list[str] | None = None


@dataclass
class Visit:
    """What one reader has on the page. Events that run at a time share it, so that none shows what is over."""

    path: str | None = None
    turns: list[Turn] = field(default_factory=list)

    def show(self) -> str:
        """Return the conversation."""
        return drawing.show_conversation([drawing.show_turn(one.question, one.parts) for one in self.turns])


def open_track(studio: Studio, path: str | None, visit: Visit) -> tuple[Any, ...]:
    """Return what the page shows of a new track, or why it cannot be heard; None: as at the beginning."""
    visit.path, visit.turns = None, []
    shown, heard = "", False
    if path is not None:
        try:
            visit.path = find_upload(path)
            shown, heard = drawing.show_track(studio.draw(path)), True
        except Refusal as error:
            shown = drawing.show_refusal(str(error))
    return shown, gr.update(visible=heard), LISTENING if heard else "", "", visit, gr.update(visible=not heard)


def describe_track(studio: Studio, path: str | None, visit: Visit) -> Any:
    """Return the description of a track, or why there is none; nothing new where it is the page's no more."""
    try:
        shown = "" if path is None else drawing.show_description(vars(studio.describe(find_upload(path))))
    except Refusal as error:
        shown = drawing.show_refusal(str(error))
    return shown if path == visit.path else gr.skip()


def converse(studio: Studio, visit: Visit, question: str, options: str) -> Iterator[tuple[str, Visit, str]]:
    """Yield the conversation with one question more: at once, and with its answer."""
    asked, named = " ".join(question.split()), [one for one in options.split(",") if one.strip()]
    turn = Turn(asked, [LISTENING])
    visit.turns.append(turn)
    yield visit.show(), visit, ""
    try:
        if visit.path is None:
            raise Refusal(400, "there is no track: give one first")
        turn.parts, typed = answer(studio, visit.path, asked, named)
        turn.unexplained = named if typed else None
    except Refusal as error:
        turn.parts = [drawing.show_refusal(str(error))]
    yield visit.show(), visit, ""


def answer(studio: Studio, path: str, question: str, options: list[str]) -> tuple[list[str], bool]:
    """Return what is shown of an answer, and whether it was decided with a probability; raises Refusal."""
    if options:
        decided = studio.decide(path, question, options)
        return list(drawing.show_decided(decided)), not decided.reason
    answered = studio.ask(path, question)
    return list(drawing.show_answered(answered)), answered.probability is not None


def explain_turns(studio: Studio, visit: Visit) -> Iterator[str]:
    """Yield the conversation with the seconds that typed answers rest on; at least as it is, or gradio empties it."""
    path, parts = visit.path, []
    for turn in [one for one in visit.turns if one.unexplained is not None]:
        options, turn.unexplained = turn.unexplained, None
        parts, turn.parts = turn.parts, [*turn.parts, LOOKING]
        yield visit.show()
        try:
            turn.parts = [*parts, drawing.show_evidence(studio.explain(str(path), turn.question, options))]
        except Refusal:  # the answer stands without
            turn.parts = parts
    yield visit.show()


def mount(page: Any, studio: Studio) -> Any:
    """Return the page as an ASGI application, with its API and its tools at /gradio_api/mcp/."""
    own = files("descant.doors")
    script = own.joinpath("app.js").read_text(encoding="utf-8")
    return gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None), page, "/", mcp_server=True, ssr_mode=False,
        footer_links=["api"], run_history=False, show_error=True, max_file_size=studio.limits.bytes,
        theme=gr.themes.Base(font=FONTS, font_mono=("ui-monospace", "monospace"), primary_hue="indigo"),
        css=own.joinpath("app.css").read_text(encoding="utf-8"), head=f"<script>{script}</script>", pwa=False,
        enable_monitoring=False, app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )  # fmt: skip
