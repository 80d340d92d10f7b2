"""What of a model becomes a graph for another runtime: its front end, its audio encoder, its typed questions.

Each is a module of tensors in, tensors out, whose first axis is the only one that varies. Whatever is the same for all
sound (prompts, trees of answers, filters) is held as constants.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv1d, pad
from transformers import PreTrainedModel

from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor, LPMusicCapsForConditionalGeneration
from descant.models.lp_music_caps.answer_tree import AnswerTree, find_hidden, pool_states, read_hidden
from descant.models.lp_music_caps.feature_extraction_lp_music_caps import mel_filters as htk_filters
from descant.models.lp_music_caps.generation_lp_music_caps import embed_nodes, stack_trees
from descant.models.mert_lm import MertLMFeatureExtractor, MertLMForConditionalGeneration
from descant.models.mert_lm.feature_extraction_mert_lm import pool
from descant.models.musicnn import MusicnnFeatureExtractor, MusicnnModel
from descant.models.musicnn.feature_extraction_musicnn import mel_filters as slaney_filters

NEVER = -1e30  # the logarithm of a probability of 0, with which sums stay numbers


# Waveform to features


class LogMel(nn.Module):
    """The log-mel of waveforms, with the Fourier transform as a convolution, which every runtime has.

    `complete`: whether power counts the imaginary parts, as that of musicnn does and that of LP-MusicCaps does not.
    """

    def __init__(self, extractor: LPMusicCapsFeatureExtractor | MusicnnFeatureExtractor) -> None:
        super().__init__()
        self.complete = isinstance(extractor, MusicnnFeatureExtractor)
        self.middle, self.hop = extractor.n_fft // 2, extractor.hop_length
        times = torch.arange(extractor.n_fft, dtype=torch.float64)
        angles = 2 * torch.pi / extractor.n_fft * (times[: self.middle + 1, None] * times % extractor.n_fft)
        window = torch.hann_window(extractor.n_fft, dtype=torch.float64)
        waves = [angles.cos(), angles.sin()] if self.complete else [angles.cos()]
        self.waves = nn.Buffer((torch.cat(waves) * window).float()[:, None])  # (bins × parts, 1, n_fft)
        bands = extractor.num_mel_bins, extractor.sampling_rate, extractor.f_min, extractor.f_max
        self.filters = nn.Buffer((slaney_filters if self.complete else htk_filters)(extractor.n_fft, *bands).clone())

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """(batch, samples) → (batch, frames, bands) for musicnn, (batch, bands, frames) for LP-MusicCaps."""
        padded = pad(waveform[:, None], (self.middle, self.middle), "constant" if self.complete else "reflect")
        parts = conv1d(padded, self.waves, stride=self.hop)
        power = parts.square().unflatten(1, (-1, self.middle + 1)).sum(dim=1)  # (batch, bins, frames)
        if self.complete:
            return (1.0 + 10_000.0 * (power.mT @ self.filters)).log10()
        return 10.0 * (self.filters.T @ power).clamp(min=1e-10).log10()


class Standardised(nn.Module):
    """Waveforms of mean 0 and variance 1, or as they are, for encoders that read samples."""

    def __init__(self, extractor: MertLMFeatureExtractor) -> None:
        super().__init__()
        self.normalises = bool(extractor.do_normalize)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """(batch, samples of a window) → the same."""
        if not self.normalises:
            return waveform * 1.0
        centred = waveform - waveform.mean(dim=1, keepdim=True)
        return centred / (centred.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()


def build_front_end(extractor: Any) -> nn.Module | None:
    """Return what computes features of whole windows; None for a feature extractor that is not descant's own."""
    if isinstance(extractor, LPMusicCapsFeatureExtractor | MusicnnFeatureExtractor):
        return LogMel(extractor)
    return Standardised(extractor) if isinstance(extractor, MertLMFeatureExtractor) else None


# Features to audio embeddings


class Encoder(nn.Module):
    """What a model hears: `get_audio_features`, of MertLM what else probes read, of musicnn's networks the tags."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.gives_tags = False
        if isinstance(model, MertLMForConditionalGeneration):
            self.gives_tags = isinstance(model.audio_encoder, MusicnnModel)

    def forward(self, input_features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Features → audio_embeds (batch, positions, width), audio_states (batch, width of the encoder) of MertLM,
        tag_probabilities (batch, tags), means of patches.
        """
        if not isinstance(self.model, MertLMForConditionalGeneration):
            return {"audio_embeds": self.model.get_audio_features(input_features)}
        tags: dict[str, torch.Tensor] = {}
        if self.gives_tags:
            heard = self.model.audio_encoder(input_features)
            states = pool(heard.last_hidden_state[:, None], self.model.config)
            tags["tag_probabilities"] = heard.tag_logits.sigmoid().mean(dim=1)
        else:
            states = self.model.encode_audio(input_features)
        return {"audio_embeds": self.model.projector(states), "audio_states": self.model.pool_audio(states), **tags}


# Audio embeddings to typed answers


class Decisions(nn.Module):
    """Scores of the options of fixed typed questions: what `score_options` of the model gives.

    names: of the questions, which are the graph's outputs. prompts: question → wordings → token ids. trees: one of
    each question. Raises ValueError where decision.json was fitted for another model.
    """

    def __init__(
        self, model: PreTrainedModel, names: Sequence[str], prompts: list[list[list[int]]], trees: list[AnswerTree]
    ) -> None:
        super().__init__()
        self.names = list(names)
        self.sizes = [
            (len(wordings), int(tree.options.max()) + 1) for wordings, tree in zip(prompts, trees, strict=True)
        ]
        asked = [prompt for wordings in prompts for prompt in wordings]
        each = [tree for wordings, tree in zip(prompts, trees, strict=True) for _ in wordings]
        kind = ReadMertLM if isinstance(model, MertLMForConditionalGeneration) else ReadLPMusicCaps
        read = kind(model, asked, each)
        self.read, self.vocabulary = read, model.get_output_embeddings().out_features
        self.reads_states = isinstance(model, MertLMForConditionalGeneration)
        states = 2 * read.width + (len(model.projector.mean) if self.reads_states else 0)
        self.hidden = find_hidden(trees)
        self._hold_paths(each, read_hidden(torch.zeros(1, states), trees).shape[1])

    def _hold_paths(self, trees: list[AnswerTree], states: int) -> None:
        """Join the paths of all trees: the entries of the log-probabilities to add, what is added, whose they are."""
        longest, first = max(tree.nodes.shape[1] for tree in trees), 0
        entries, taken, added, groups = [], [], [], []
        for tree in trees:
            more = (0, longest - tree.nodes.shape[1])
            nodes, nexts = pad(tree.nodes, more, value=-1), pad(tree.nexts, more, value=-1)
            entries.append((nodes.clamp(min=0) + first) * self.vocabulary + nexts.clamp(min=0))
            taken.append(nodes >= 0)
            added.append(torch.cat([self._probe(tree, states), tree.shifts[:, None]], dim=1))
            before = sum(map(len, added[:-1]))
            groups += [
                (before + (tree.options == option).nonzero()[:, 0]).tolist()
                for option in range(int(tree.options.max()) + 1)
            ]
            first += len(tree.tokens)
        widest, paths = max(map(len, groups)), sum(map(len, added))
        self.entries, self.taken = nn.Buffer(torch.cat(entries)), nn.Buffer(torch.cat(taken).float())
        joined = torch.cat(added)  # (paths, states + a constant + a shift)
        self.weights, self.constants = nn.Buffer(joined[:, :-2].T.contiguous()), nn.Buffer(joined[:, -2:].sum(dim=1))
        filled = [group + [paths] * (widest - len(group)) for group in groups]
        self.groups = nn.Buffer(torch.tensor(filled))  # (options of all trees, most paths)

    @staticmethod
    def _probe(tree: AnswerTree, states: int) -> torch.Tensor:
        if not tree.weights.shape[1]:
            return torch.zeros(len(tree.weights), states + 1)
        if tree.weights.shape[1] != states + 1:
            raise ValueError("decision.json was fitted for another model: fit it again")
        return tree.weights.float()

    def forward(
        self, audio_embeds: torch.Tensor, audio_states: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """audio_embeds (batch, positions, width), and the audio_states that `Encoder` gives beside them, if any →
        question → log-probabilities (batch, options).
        """
        steps = self.read(audio_embeds).log_softmax(dim=-1).flatten(1)  # (batch, nodes of all trees × vocabulary)
        taken = steps.index_select(1, self.entries.flatten()).unflatten(1, self.entries.shape) * self.taken
        probed = pool_states(audio_embeds)
        if audio_states is not None:
            probed = torch.cat([probed, audio_states], dim=1)
        if self.hidden is not None:
            probed = self.hidden.read(probed)
        paths = taken.sum(dim=2) + probed @ self.weights + self.constants
        paths = pad(paths, (0, 1), value=NEVER)
        options = paths.index_select(1, self.groups.flatten()).unflatten(1, self.groups.shape).logsumexp(dim=2)
        answers, start = {}, 0
        for name, (wordings, count) in zip(self.names, self.sizes, strict=True):
            asked = options[:, start : start + wordings * count].unflatten(1, (wordings, count))
            answers[name] = asked.log_softmax(dim=2).mean(dim=1)
            start += wordings * count
        return answers


class ReadMertLM(nn.Module):
    """Logits behind every node of the trees, each tree behind a prompt and the audio in it, in one pass."""

    def __init__(
        self, model: MertLMForConditionalGeneration, prompts: list[list[int]], trees: list[AnswerTree]
    ) -> None:
        super().__init__()
        self.model = model
        self.width: int = model.config.text_config.hidden_size
        lengths = [len(prompt) + len(tree.tokens) for prompt, tree in zip(prompts, trees, strict=True)]
        shape, no_audio = (len(prompts), max(lengths)), model.config.audio_positions
        tokens, depths = torch.full(shape, model.config.pad_token_id), torch.zeros(shape, dtype=torch.long)
        places = torch.full(shape, no_audio)
        visible = torch.eye(shape[1], dtype=torch.bool).repeat(len(prompts), 1, 1)
        answers = []
        for row, (prompt, tree) in enumerate(zip(prompts, trees, strict=True)):
            start, end = len(prompt), lengths[row]
            ids = torch.tensor(prompt)
            is_audio = ids == model.config.audio_token_id
            tokens[row, :start] = ids.masked_fill(is_audio, model.config.pad_token_id)
            tokens[row, start:end] = tree.tokens
            tokens[row, start] = model.config.decoder_start_token_id
            places[row, :start][is_audio] = torch.arange(no_audio)
            depths[row, :end] = torch.cat([torch.arange(start), start + tree.depths])
            visible[row, :end, :end] = torch.ones(end, end, dtype=torch.bool).tril()
            visible[row, start:end, start:end] = tree.visible
            answers.append(row * shape[1] + torch.arange(start, end))
        self.tokens, self.depths, self.places = nn.Buffer(tokens), nn.Buffer(depths), nn.Buffer(places)
        self.blocked = nn.Buffer(torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min))
        self.answers, self.no_audio = nn.Buffer(torch.cat(answers)), no_audio

    def forward(self, audio_embeds: torch.Tensor) -> torch.Tensor:
        """(batch, positions, width) → (batch, nodes, vocabulary)."""
        batch, rows = audio_embeds.shape[0], self.tokens.shape[0]
        words = self.model.get_input_embeddings()(self.tokens) * (self.places == self.no_audio)[..., None]
        audio = pad(audio_embeds, (0, 0, 0, 1)).index_select(1, self.places.flatten())
        embeds = words + audio.unflatten(1, self.places.shape)
        hidden = self.model.language_model.model(
            inputs_embeds=embeds.flatten(0, 1),
            attention_mask=self.blocked[None, :, None].expand(batch, -1, -1, -1, -1).flatten(0, 1),
            position_ids=self.depths[None].expand(batch, -1, -1).flatten(0, 1),
            use_cache=False,
        ).last_hidden_state
        nodes = hidden.unflatten(0, (batch, rows)).flatten(1, 2).index_select(1, self.answers)
        return self.model.get_output_embeddings()(nodes)


class ReadLPMusicCaps(nn.Module):
    """Logits behind every node of the trees, of which the decoder reads each beside a prompt and the audio."""

    def __init__(
        self, model: LPMusicCapsForConditionalGeneration, prompts: list[list[int]], trees: list[AnswerTree]
    ) -> None:
        super().__init__()
        self.model = model
        self.width: int = model.config.d_model
        positions = model.config.audio_positions
        shape = len(prompts), max(map(len, prompts)) + positions
        tokens, places = torch.full(shape, model.config.pad_token_id), torch.full(shape, positions)
        heard = torch.zeros(shape, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            end = len(prompt) + positions
            tokens[row, : len(prompt)], heard[row, :end] = torch.tensor(prompt), True
            places[row, len(prompt) : end] = torch.arange(positions)
        answers, depths, visible = stack_trees(trees, model.config.decoder_start_token_id)
        least = torch.finfo(torch.float32).min
        self.tokens, self.places, self.positions = nn.Buffer(tokens), nn.Buffer(places), positions
        self.unheard = nn.Buffer(torch.zeros(shape).masked_fill(~heard, least)[:, None, None])
        self.answers, self.depths = nn.Buffer(answers), nn.Buffer(depths)
        self.blocked = nn.Buffer(torch.zeros(visible.shape).masked_fill(~visible, least)[:, None])
        size = answers.shape[1]
        nodes = [row * size + torch.arange(len(tree.tokens)) for row, tree in enumerate(trees)]
        self.nodes = nn.Buffer(torch.cat(nodes))

    def forward(self, audio_embeds: torch.Tensor) -> torch.Tensor:
        """(batch, positions, width) → (batch, nodes, vocabulary)."""
        batch, rows = audio_embeds.shape[0], self.tokens.shape[0]
        words = self.model.model.encoder.embed_tokens(self.tokens) * (self.places == self.positions)[..., None]
        audio = pad(audio_embeds, (0, 0, 0, 1)).index_select(1, self.places.flatten())
        embeds = (words + audio.unflatten(1, self.places.shape)).flatten(0, 1)  # (batch × prompts, length, width)

        def each(constant: torch.Tensor) -> torch.Tensor:
            return constant[None].expand(batch, *constant.shape).flatten(0, 1)

        unheard = each(self.unheard).expand(-1, 1, self.tokens.shape[1], -1)
        encoded = self.model.model.encoder(inputs_embeds=embeds, attention_mask=unheard).last_hidden_state
        states = self.model.model.decoder(
            inputs_embeds=embed_nodes(self.model.model.decoder, each(self.answers), each(self.depths)),
            attention_mask=each(self.blocked),
            encoder_hidden_states=encoded,
            encoder_attention_mask=each(self.unheard).expand(-1, 1, self.answers.shape[1], -1),
            use_cache=False,
        ).last_hidden_state
        nodes = states.unflatten(0, (batch, rows)).flatten(1, 2).index_select(1, self.nodes)
        return self.model.lm_head(nodes) + self.model.final_logits_bias
