"""TaDiCodec's decoder: codes, the transcript and a voice become mel spectra by flow matching.

    text ----------------------------+ (before the frames)
    codes of prompt and recording -> 50 Hz --+
    mel of the prompt, then noise -> steps --+-> transformer -> mel of the recording -> vocoder

The codes alone do not tell what it makes: it is told the text, the sound of a prompt, and a seed.
`side_information` says what it was told, and belongs beside every score. A prompt is encoded here,
by the encoder of the tokenizer, as its codes come before those of the recording. Without weights of
a vocoder the phase is that of Griffin-Lim.

Source: Wang et al. 2025, arXiv:2508.16790; repository HeCheng0625/Diffusion-Speech-Tokenizer at
cc660a8, whose spectra these are. There the codes of a recording are made together with its prompt,
and a recording without a prompt is prompted by its own first 3 s, which are then left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError, in_one_line
from audiotok._platform.optional import optional_import
from audiotok._platform.shapes import Features, Latent, Output, State, Wave
from audiotok.audio.coerce import to_audio
from audiotok.codecs.decoders.base import Decoder, Source, SourceTokenizer
from audiotok.codecs.models import tadicodec
from audiotok.codecs.models.tadicodec import DEVIATION, HOP, MEAN, POOL, Tadicodec
from audiotok.nn.flow import Sampling, guided, integrate, noise_of
from audiotok.nn.griffin_lim import griffin_lim
from audiotok.nn.layers.base import WholeClip
from audiotok.nn.layers.centred_mel import slaney_bank
from audiotok.nn.mel_velocity import MelVelocity
from audiotok.nn.pretrained.state_dicts import StateDictAdapter, taps_first
from audiotok.nn.quantizer import check_type, types_of
from audiotok.nn.quantizers.bsq import Bsq
from audiotok.nn.vocos_chain import VocosChain

RATE = 50 * HOP
BYTES = 256  # text tokens that are bytes
SAMPLING = ("steps", "guidance", "rescale")


@dataclass(frozen=True)
class Config:
    """Sizes of `MelFlow`; the defaults are the published ones.

    Attributes:
        tokenizer: name of the tokenizer whose tokens it takes.
        bands: mel bands.
        width: width of the transformers.
        encoder_blocks: blocks of the encoder of the tokenizer.
        blocks: blocks of the decoder.
        heads: attention heads of both.
        bits: bits of a code.
        vocabulary: number of text tokens; those of 256 are the bytes of UTF-8.
        vocoder_width: width of the vocoder.
        vocoder_blocks: ConvNeXt blocks of it; 0 for Griffin-Lim in its place.
        sigma: deviation of the noise that is left in what is learnt.
        steps: steps of sampling, unless a condition says otherwise.
        guidance: guidance, unless a condition says otherwise; 1 is none.
        rescale: share of a guided velocity that is rescaled, unless a condition says otherwise.
    """

    tokenizer: str = "tadicodec"
    bands: int = 128
    width: int = 1024
    encoder_blocks: int = 8
    blocks: int = 16
    heads: int = 16
    bits: int = 14
    vocabulary: int = 32100
    vocoder_width: int = 1024
    vocoder_blocks: int = 30
    sigma: float = 1e-5
    steps: int = 32
    guidance: float = 2.0
    rescale: float = 0.75

    def __post_init__(self) -> None:
        if min(self.blocks, self.vocabulary) < 1 or self.vocoder_blocks < 0:
            raise InputError("blocks and vocabulary: at least 1; vocoder_blocks: 0 or more")
        if self.width < 4 or self.width % (2 * self.heads):
            raise InputError(f"width {self.width}: heads of an even number of features share it")
        self.sampling  # noqa: B018 -- refuses what there is not

    @property
    def sampling(self) -> MelSampling:
        """Sampling without conditions."""
        return MelSampling(self.steps, guidance=self.guidance, rescale=self.rescale)

    @property
    def of_tokenizer(self) -> tadicodec.Config:
        """Sizes of the tokenizer."""
        return tadicodec.Config(self.bands, self.width, self.encoder_blocks, self.heads, self.bits)


@dataclass(frozen=True)
class MelSampling(Sampling):
    """Settings of sampling, and `rescale` of `nn.flow.guided`."""

    method: str = "centred"
    rescale: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rescale <= 1:
            raise InputError(f"rescale {self.rescale:g}: a share from 0 to 1")


class MelSampler(WholeClip):
    """Layer from embeddings of codes `[b width f]` to waves `[b 1 t]`."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.width, 1)
        self.config = config
        self.produces = POOL * HOP
        self.velocity = MelVelocity(
            config.bands, config.width, blocks=config.blocks, heads=config.heads
        )
        if config.vocoder_blocks:
            self.vocoder = VocosChain(
                config.bands,
                config.vocoder_width,
                blocks=config.vocoder_blocks,
                expansion=4,
                hop=HOP,
                window=4 * HOP,
            )
        else:
            self.vocoder = None
            bank = slaney_bank(RATE, 4 * HOP, config.bands, 0.0, RATE / 2)
            inverse = torch.linalg.pinv(torch.from_numpy(bank).double()).float()
            self.register_buffer("inverse", inverse, persistent=False)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`; with what there is without conditions."""
        return self.sound(self.sampled(x, self.config.sampling))

    def sampled(
        self,
        x: Features,
        sampling: MelSampling,
        *,
        text: Tensor | None = None,
        prompt: tuple[Tensor, Tensor] | None = None,
    ) -> Output:
        """Return normalised mel spectra `[b bands 8*f]`.

        Args:
            x: embeddings of codes `[b width f]`.
            sampling: settings, with the seed of the noise.
            text: embeddings of text `[n width]`; None for none.
            prompt: embeddings of the codes of a prompt `[1 width p]`, and its spectrum
                `[bands 8*p]`; None for none.
        """
        b = len(x)
        before = x.new_zeros(b, self.config.bands, 0)
        if prompt is not None:
            x = torch.cat([prompt[0].expand(b, -1, -1), x], 2)
            before = prompt[1].expand(b, -1, -1)
        codes = stretched(x)
        words = None if text is None else text.expand(b, -1, -1)
        frames = codes.shape[2] - before.shape[2]
        noise = noise_of(sampling.seed, self.config.bands, frames, x).expand(b, -1, -1)

        def under(codes: Tensor, words: Tensor | None) -> Any:
            def velocity(point: Tensor, time: float) -> Tensor:
                whole, times = torch.cat([before, point], 2), point.new_full((b,), time)
                return self.velocity(whole, times, codes, words)[:, :, before.shape[2] :]

            return velocity

        given, without = under(codes, words), under(torch.zeros_like(codes), None)
        velocity = guided(given, without, sampling.guidance, rescale=sampling.rescale)
        return integrate(velocity, noise, sampling)

    def sound(self, mel: Features) -> Output:
        """Return waves `[b 1 480*t]` of normalised mel spectra `[b bands t]`."""
        # The vocoder of the authors takes spectra as they are sampled, normalised.
        if self.vocoder is not None:
            return self.vocoder(mel)
        logs = mel * DEVIATION + MEAN
        # A frame is centred on the middle of a hop, and one before the first reaches its beginning.
        logs = torch.cat([logs[:, :, :1], logs, logs[:, :, -1:].expand(-1, -1, 4)], 2)
        magnitude = (self.get_buffer("inverse") @ logs.exp()).clamp(min=0)
        wave = griffin_lim(magnitude, hop=HOP, window=4 * HOP, fft=4 * HOP)
        return wave[:, None, HOP // 2 : HOP // 2 + HOP * mel.shape[2]]


def stretched(x: Features) -> Output:
    """Return embeddings of codes `[b d f]` at the rate of the spectrum, `[b d 8*f]`."""
    return F.interpolate(x, scale_factor=POOL, mode="linear")


class MelFlow(Decoder):
    """TaDiCodec's decoder, for tokens of the weights that it was trained with.

    Conditions: `text`, what is said, or its tokens; `prompt`, a recording whose voice it is to
    have; `prompt_text`, what is said there; `text_tokenizer`, the path of the tokenizer.json whose
    tokens `text` has, of a vocabulary that is not of bytes; `steps`, `guidance` and `rescale` of
    `MelSampling`. Prompts of up to two thirds of a recording's length are what it has learnt.

    Attributes:
        sampling: settings of sampling, with the seed.
    """

    name = "mel_flow"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"mel_flow_tadicodec": Config()}
    conditions = (
        *("text", "prompt", "prompt_text", "text_tokenizer"),
        *("steps", "guidance", "rescale"),
    )
    trained_by = "the program of its authors (the folder of amphion/TaDiCodec, from Hugging Face)"
    random = True
    causal = False
    fills_up = False
    state_dict_adapters = (
        StateDictAdapter(
            source="Diffusion-Speech-Tokenizer, TaDiCodec",
            marks=("vq_in_linear.weight", "encoder.in_linear.weight", "decoder.in_linear.weight"),
            prepare=tadicodec.all_numbered,
            rules=tadicodec.ALL,
            ignored=(r"^bsq\.", r"^repa_mlp\.", r"^vocoder\.head\.istft\."),
            tensors=(*tadicodec.BITS, (r"\.depthwise\.weight$", taps_first)),
            sizes=tadicodec.all_sizes,
            beside={"vocoder.": "vocoder/model.safetensors"},
        ),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = RATE
        self.frame_size = POOL * HOP
        self.source = Source(config.tokenizer, RATE, self.frame_size, (2**config.bits,))
        self.encoder = self.no_encoder()
        with torch.device("meta"):
            own = Tadicodec(config.of_tokenizer)
        own.encoder = self.prompt_encoder = tadicodec.Encoder(config.of_tokenizer)
        own.quantizer = self.quantizer = Bsq(config.width, bits=config.bits, commitment=0.0)
        own.name = config.tokenizer
        self._own = (own,)  # no part of this network, whose parts it shares
        self.text = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.text.weight, std=0.02)
        self.decoder = MelSampler(config)
        self.sampling = config.sampling
        self._words: Tensor | None = None
        self._prompt: tuple[Tensor, Tensor] | None = None  # codes `[1 1 p]`, mel `[bands 8*p]`

    @property
    def own_tokenizer(self) -> Tadicodec:
        """The tokenizer of these weights, which it shares."""
        return self._own[0].eval()

    @property
    def tokenizer(self) -> SourceTokenizer:
        """See `Decoder.tokenizer`; tokens of other weights mean something else."""
        return SourceTokenizer(replace(self.source, fingerprint=self.own_tokenizer.fingerprint))

    @property
    def sampler(self) -> MelSampler:
        """The layer that samples and makes sound."""
        return cast("MelSampler", self.decoder)

    # -- conditions -------------------------------------------------------------------------------

    def text_tokens(self, text: str | Sequence[int], path: str | None = None) -> list[int]:
        """Return the tokens of a text.

        Args:
            text: a text, or its tokens.
            path: the tokenizer.json of a vocabulary that is not of bytes.

        Raises:
            InputError: a text without a tokenizer, or tokens that there are not.
            ImportError: `tokenizers` is not installed.
        """
        if isinstance(text, str):
            if self.config.vocabulary == BYTES:
                return list(text.encode())
            if path is None:
                raise InputError(
                    f"{self.name}: a text of {self.config.vocabulary} kinds of tokens needs the "
                    "condition text_tokenizer, the path of its tokenizer.json"
                )
            library = optional_import("tokenizers", extra="lm")
            try:
                text = library.Tokenizer.from_file(path).encode(text, add_special_tokens=False).ids
            except Exception as error:  # the library raises nothing more special
                raise InputError(f"{path}: no tokenizer.json ({in_one_line(error)})") from None
        tokens = [int(token) for token in text]
        if any(not 0 <= token < self.config.vocabulary for token in tokens):
            raise InputError(f"{self.name}: text tokens are 0 to {self.config.vocabulary - 1}")
        return tokens

    def set_conditions(self, seed: int, conditions: dict[str, Any]) -> None:
        """See `Decoder.set_conditions`."""
        given = {name: value for name, value in conditions.items() if value is not None}
        types = {**types_of(MelSampling), "text_tokenizer": str}
        types |= dict.fromkeys(("text", "prompt_text"), str | list[int])
        for name in given.keys() - {"prompt"}:
            check_type(f"{self.name}: condition {name!r}", given[name], types[name])
        sampling = {name: given[name] for name in SAMPLING if name in given}
        self.sampling = replace(self.config.sampling, seed=seed, **sampling)
        if "prompt_text" in given and not {"text", "prompt"} <= given.keys():
            raise InputError(f"{self.name}: prompt_text goes with a prompt and a text")
        if "text_tokenizer" in given and "text" not in given:
            raise InputError(f"{self.name}: text_tokenizer goes with a text")
        texts = [given[name] for name in ("prompt_text", "text") if name in given]
        if not all(texts):
            raise InputError(f"{self.name}: an empty text says nothing: leave it out")
        path = given.get("text_tokenizer")
        if len(texts) == 2 and all(isinstance(each, str) for each in texts):
            texts = ["".join(texts)]
        tokens = [token for each in texts for token in self.text_tokens(each, path)]
        self._words = torch.tensor(tokens, device=self.device) if tokens else None
        self._prompt = self._prompt_of(given["prompt"]) if "prompt" in given else None

    @torch.no_grad()
    def _prompt_of(self, recording: Any) -> tuple[Tensor, Tensor]:
        """Return codes and normalised spectrum of the whole frames of a prompt."""
        audio = to_audio(recording).mono().resample(RATE)
        frames = len(audio) // self.frame_size
        if not frames or not audio.samples.any():
            raise InputError(f"{self.name}: a prompt is at least 0.16 s of speech, not silence")
        wave = audio.samples[None, :, : frames * self.frame_size].to(self.device)
        encoder = cast("tadicodec.Encoder", self.prompt_encoder)
        return self.quantizer.encode(encoder(wave)), encoder.normalised(wave[:, 0])[0]

    @property
    def side_information(self) -> dict[str, Any]:
        """See `Decoder.side_information`."""
        return {**super().side_information, **asdict(self.sampling)}

    @property
    def decoder_fingerprint(self) -> str:
        """See `Decoder.decoder_fingerprint`; all that it was told is covered."""
        conditions = [self._words, *(self._prompt or ())]
        digest = hashlib.sha256(f"{super().decoder_fingerprint}{self.sampling}".encode())
        for each in conditions:
            digest.update(b"none" if each is None else each.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    # -- tokens to samples ------------------------------------------------------------------------

    @torch.no_grad()
    def spectrum(self, latent: Latent) -> Output:
        """Return normalised mel spectra `[b bands 8*f]` of embeddings of codes `[b width f]`."""
        text = None if self._words is None else self.text(self._words)
        prompt = self._prompt and (self.quantizer.decode(self._prompt[0]), self._prompt[1])
        return self.sampler.sampled(latent, self.sampling, text=text, prompt=prompt)

    def finish_wave(self, latent: Latent, state: State) -> Wave:
        """See `Network.finish_wave`; all is made here."""
        whole = latent if state is None else self.decoder.joined(state, latent)
        if not whole.shape[2]:
            return whole.new_zeros(len(whole), 1, 0)
        return self.sampler.sound(self.spectrum(whole))
