"""The page on which a model listens to a track and is asked about it, its API and its MCP tools: `descant app`.

Gradio gives the page and carries the calls; what is answered, and within which limits, is the `Studio`'s. `PageGate`
stands before Gradio, lets in its routes only, and sends pages that may fetch nothing from elsewhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from descant.doors.requests import AUDIO, Refusal
from descant.doors.studio import Studio

# Embedded clips that an example joins to one track: without drums, with them, without, with.
EXAMPLE = ("d3y2catutfz", "d3etnhmr7mc", "dhjpe5qedvs", "d6qm5r4qsp6")
EXAMPLE_RATE = 32_000
SUGGESTED = ("What is the genre?", "Are there drums?", "What is the mood?", "Which instruments are heard?")
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # of the reader's own machine
KEPT_S = 3600  # that uploads are kept; looked at every ten minutes
ALONE = "Each question is answered by itself, about this track: earlier questions and answers are not part of it."
LISTENING = '<p class="dc-note dc-waiting">Listening …</p>'
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


def keep_from_fetching(block: Any) -> None:
    """Let a component of gradio take uploaded files only: by itself it fetches what any address holds."""
    move = block.async_move_resource_to_block_cache

    async def take(path: str | Path | None) -> str | None:
        if path is not None and str(path).startswith(("http://", "https://")):
            _, found, name = str(path).partition(UPLOADED)
            if not found:
                raise Refused(f"{AUDIO}: no address is fetched: give a data: URL, or upload the file")
            path = find_upload(unquote(name))
        return await move(path)

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
    turns: Any


def build_page(studio: Studio, example: Path) -> Any:
    """Return the page as gradio's Blocks, with the API."""
    with gr.Blocks(title="descant", analytics_enabled=False, delete_cache=(600, KEPT_S)) as page:
        connect(lay_out(studio.name), studio, example)
        for function in Tools(studio).list_functions():
            gr.api(function, api_name=function.__name__, queue=False)
    for block in page.blocks.values():
        keep_from_fetching(block)
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
    return Parts(sound, try_it, track, below, description, *asking, gr.State([]))


def lay_out_questions() -> tuple[Any, Any, list[Any], Any]:
    """Place what asks and answers."""
    gr.HTML("<h2>Ask about it</h2>")
    question = gr.Textbox(
        placeholder="A question about how it sounds", show_label=False, container=False, lines=1, max_lines=3,
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
    parts.try_it.click(lambda: str(example), None, parts.sound, **hidden)
    changed = [parts.track, parts.below, parts.description, parts.conversation, parts.turns, parts.try_it]
    opened = parts.sound.change(partial(open_track, studio), parts.sound, changed, **hidden)
    opened.success(partial(describe_track, studio), parts.sound, parts.description, **quiet)
    given, answered = [parts.sound, parts.turns], [parts.conversation, parts.turns, parts.question]
    for field in (parts.question, parts.options):
        field.submit(partial(converse, studio), [*given, parts.question, parts.options], answered, **quiet)
    for button, text in zip(parts.suggested, SUGGESTED, strict=True):
        button.click(partial(converse, studio, question=text, options=""), given, answered, **quiet)


def show_head(name: str) -> str:
    """Return the head of the page."""
    return (
        '<header class="dc-head"><h1>descant</h1><p>Give it a track. It describes what it hears, answers questions, '
        f"and shows where in time its answers come from. <span>Model: {escape(name)}</span></p></header>"
    )


def open_track(studio: Studio, path: str | None) -> tuple[Any, ...]:
    """Return what the page shows of a new track, or why it cannot be heard; None: as at the beginning."""
    if path is None:
        return "", gr.update(visible=False), "", "", [], gr.update(visible=True)
    try:
        picture = drawing.show_track(studio.draw(path))
    except Refusal as error:
        refused = drawing.show_refusal(str(error))
        return refused, gr.update(visible=False), "", "", [], gr.update(visible=True)
    return picture, gr.update(visible=True), LISTENING, "", [], gr.update(visible=False)


def describe_track(studio: Studio, path: str | None) -> str:
    """Return the description of a track, or why there is none."""
    if path is None:
        return ""
    try:
        return drawing.show_description(vars(studio.describe(path)))
    except Refusal as error:
        return drawing.show_refusal(str(error))


def converse(
    studio: Studio, path: str | None, turns: list[str], question: str, options: str
) -> Iterator[tuple[str, list[str], str]]:
    """Yield the conversation with one question more, at once and again with its answer."""
    asked = " ".join(question.split())
    yield drawing.show_conversation([*turns, drawing.show_turn(asked, [LISTENING])]), turns, ""
    try:
        if path is None:
            raise Refusal(400, "there is no track: give one first")
        named = options.split(",")
        if any(one.strip() for one in named):
            parts = list(drawing.show_decided(studio.decide(path, asked, named)))
        else:
            parts = list(drawing.show_answered(studio.ask(path, asked)))
    except Refusal as error:
        parts = [drawing.show_refusal(str(error))]
    turns = [*turns, drawing.show_turn(asked, parts)]
    yield drawing.show_conversation(turns), turns, ""


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
