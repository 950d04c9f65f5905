"""Options of other programs' models (config.json): each is used, checked, or refused by its name.

Weights do not tell everything: a window of attention or a number of heads has no tensor. An option
that is not known here may be one that changes codes, so that none is passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from audiotok.nn.pretrained.state_dicts import StateDictError

# What transformers writes into every configuration, which says nothing of the network.
COMMON = frozenset(
    (
        *("_attn_implementation", "_name_or_path", "add_cross_attention", "architectures"),
        *("attention_dropout", "auto_map", "bad_words_ids", "begin_suppress_tokens"),
        *("bos_token_id", "chunk_size_feed_forward", "cross_attention_hidden_size"),
        *("decoder_start_token_id", "diversity_penalty", "do_sample", "dtype", "early_stopping"),
        *("encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty"),
        *("finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "id2label"),
        *("initializer_range", "is_decoder", "is_encoder_decoder", "label2id"),
        *("layer_scale_initial_scale", "length_penalty", "max_length", "max_position_embeddings"),
        *("min_length", "model_type", "no_repeat_ngram_size", "num_beam_groups", "num_beams"),
        *("num_return_sequences", "output_attentions", "output_hidden_states", "output_scores"),
        *("pad_token_id", "prefix", "problem_type", "pruned_heads", "remove_invalid_values"),
        *("repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id"),
        *("suppress_tokens", "task_specific_params", "temperature", "tf_legacy_loss"),
        *("tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "top_k", "top_p"),
        *("torch_dtype", "torchscript", "transformers_version", "typical_p", "use_bfloat16"),
        *("use_cache",),
    )
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Reader of the options of one kind of model.

    Attributes:
        fields: their name of an option, and the field of the codec's Config that it is.
        fixed: their name of an option, and the one value of it that the network here computes.
        derived: options that follow from the shapes of the weights, or that change no code and no
            sample.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    derived: Collection[str] = ()

    def read(self, options: Mapping[str, Any], where: str = "config.json") -> dict[str, Any]:
        """Return fields of the codec's Config and their values; those that are missing are left.

        Args:
            options: their options by name; nothing at all where there is no file of them.
            where: what the options are, for messages.

        Raises:
            StateDictError: an option is not known, or has a value that the network here does not
                compute; the message names it.
        """
        known = {*self.fields, *self.fixed, *self.derived, *COMMON}
        unknown = sorted(options.keys() - known)
        if unknown:
            raise StateDictError(
                f"{where} has options that are not known here: {', '.join(unknown)}"
            )
        for name, value in self.fixed.items():
            if options.get(name, value) != value:
                raise StateDictError(
                    f"{where} has {name}={options[name]!r}, and the network here {value!r}"
                )
        return {ours: options[name] for name, ours in self.fields.items() if name in options}


def agreed(sizes: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that weights tell and those that options tell, together.

    Raises:
        StateDictError: they tell different things of one field.
    """
    for name in sorted(sizes.keys() & options.keys()):
        if sizes[name] != options[name]:
            raise StateDictError(
                f"config.json has {name} {options[name]}, and the weights {sizes[name]}"
            )
    return {**sizes, **options}
