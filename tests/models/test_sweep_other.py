"""Families of image, sound and causal models that can be built small: alone and beside others, and their layers."""

import math
from pathlib import Path

import pytest
import torch
import transformers
from forwards import normal, plain
from test_sweep import TOKENS, sizes_of
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
)

from captum_lkn import AndOrInteraction, Continuation, check_model, logit_lens, players_from_mask
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import Layer, find_layers
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of the models about themselves
TABLES = (Path(__file__).parents[2] / "docs/models.md").read_text()


def documented(family, *cells):
    """Return whether a table of the page on models has a row with this family and these cells."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLES.splitlines() if line[:1] == "|"]
    return any(family in row[0].split(", ") and tuple(row[1:]) == cells for row in rows)


def small(model_class, family, sizes, *inputs):
    """A small model, or a skipped test where the sizes, those of transformers 5, do not make one."""
    config_class = getattr(transformers, CONFIG_MAPPING_NAMES[family])
    try:
        known = config_class()
        settings = sizes_of(known) if sizes is None else {n: x for n, x in sizes.items() if hasattr(known, n)}
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            model = getattr(transformers, model_class)(config_class(**settings, **TOKENS, num_labels=3)).eval()
            model(*inputs)
    except Exception as error:
        pytest.skip(f"these sizes do not make a model: {type(error).__name__}")
    return model


BLOCKS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
BLOCKS |= {"initializer_range": 0.3}
VIT = BLOCKS | {"image_size": 16, "patch_size": 4}
SWIN = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2}
TEXT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 10}
TEXT |= {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
TOWERS = {"vision_config": VIT, "text_config": TEXT}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
PYRAMID = STAGES | {"image_size": 16, "num_encoder_blocks": 2, "patch_sizes": [3, 3], "strides": [4, 2]}
PYRAMID |= {"num_attention_heads": [1, 2], "mlp_ratios": [2, 2]}
STAGES |= {"num_stages": 2, "embedding_size": 8, "groups_width": 4, "num_groups": 2}
SOUND = BLOCKS | {
    **{"conv_dim": [8, 8], "conv_kernel": [4, 3], "conv_stride": [4, 2], "num_feat_extract_layers": 2},
    **{"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "squeeze_factor": 1},
    **{"classifier_proj_size": 8, "num_buckets": 4, "max_bucket_distance": 8},
}

# What the head takes of a layer's output, written down by hand from the code of each family.
TAKES = {
    "the first token": lambda h: h[:, 0],
    "the mean over all tokens": lambda h: h.mean(1),
    "the mean over all but the first": lambda h: h[:, 1:].mean(1),
    "the first token, and the mean over the others": lambda h: torch.cat([h[:, 0], h[:, 1:].mean(1)], 1),
    "the first token, and the mean over the patches": lambda h: torch.cat([h[:, 0], h[:, 5:].mean(1)], 1),
    "the first two tokens, side by side": lambda h: torch.cat([h[:, 0], h[:, 1]], 1),
    "the mean over the first two tokens": lambda h: h[:, :2].mean(1),
    "a map, flattened": lambda h: h.flatten(1),
}
IMAGES = {
    "the first token": {"vit": VIT, "vit_msn": VIT},
    "the mean over all tokens": {
        "ijepa": VIT,
        "siglip": TOWERS,
        **dict.fromkeys(["donut-swin", "focalnet", "swin", "swinv2"], SWIN | {"hidden_sizes": [8, 16]}),
    },
    "the mean over all but the first": {
        **{"beit": VIT, "data2vec-vision": VIT},
        **dict.fromkeys(["clip", "metaclip_2"], TOWERS),
    },
    "the first token, and the mean over the others": {"dinov2": VIT},
    "the first token, and the mean over the patches": {"dinov2_with_registers": VIT},
    "the first two tokens, side by side": {"deit": VIT},
    "a map, flattened": {
        **dict.fromkeys(["bit", "convnext", "convnextv2", "regnet", "resnet"], STAGES),
        "poolformer": PYRAMID | {"padding": [1, 1]},
        "segformer": PYRAMID | {"sr_ratios": [2, 1]},
    },
}
SOUNDS = {
    "the mean over the first two tokens": {
        "audio-spectrogram-transformer": BLOCKS
        | {"max_length": 16, "num_mel_bins": 8, "patch_size": 4, "frequency_stride": 4, "time_stride": 4}
    },
    "the mean over all tokens": {
        **dict.fromkeys(["data2vec-audio", "hubert", "sew", "sew-d", "unispeech", "unispeech-sat"], SOUND),
        **dict.fromkeys(["wav2vec2", "wav2vec2-conformer", "wavlm"], SOUND),
        "wav2vec2-bert": SOUND | {"feature_projection_input_dim": 8, "left_max_position_embeddings": 4},
        "whisper": {
            **{"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 16},
            **{"decoder_layers": 1, "decoder_attention_heads": 2, "num_mel_bins": 8, "max_source_positions": 10},
            **{"classifier_proj_size": 8, "vocab_size": 20, "init_std": 0.3},
        },
    },
}
SHAPES = {"audio-spectrogram-transformer": (16, 8), "wav2vec2-bert": (12, 8), "whisper": (8, 20)}


def last_block(model):
    """The name of the last block of the longest list, or of the last list of a list of lists."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    positions = {id(inner) for n, m in model.named_modules() if n.endswith("pos_conv_embed") for inner in m.modules()}
    block = max((m for m in lists if id(m) not in positions), key=lambda m: sum(p.numel() for p in m.parameters()))
    while isinstance(block, nn.ModuleList):
        block = block[-1]
    return next(name for name, module in model.named_modules() if module is block)


def check(model, x, owners, takes, checks):
    """A sample alone and beside another one; the last block as the head takes it."""
    if checks:
        found = check_model(
            model, {model.main_input_name: x}, target=1, baselines=0, feature_mask=owners.expand(x.shape), verbose=False
        )
        assert [str(check) for check in found if check.holds is False] == []
        is_map = TAKES[takes] is TAKES["a map, flattened"]
        assert is_map or next(check for check in found if check.name.startswith("layers")).holds
    with torch.no_grad():
        table = [
            plain(model).attribute({model.main_input_name: x[:b]}, 0, 1, feature_mask=owners.expand(b, *x.shape[1:]))[0]
            for b in (1, 2)
        ]
    torch.testing.assert_close(table[0].values, table[1].values, atol=1e-5, rtol=1e-4)
    kept = []
    name = last_block(model)
    hook = model.get_submodule(name).register_forward_hook(lambda *_: kept.append(_[2]))
    with torch.no_grad():
        model(x)
    hook.remove()
    states = kept[0] if isinstance(kept[0], torch.Tensor) else kept[0][0]
    wrapped = Model(model)
    with wrapped.session(), LayerReader(wrapped, find_layers(wrapped, Layer(name))) as reader:
        (feature,) = reader(Arguments((x,), (model.main_input_name,)))[1]
    torch.testing.assert_close(feature, TAKES[takes](states), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("family", "takes"), [(f, takes) for takes, own in IMAGES.items() for f in sorted(own)])
def test_image_classifiers(family, takes, full):
    classes = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[family]
    pixels = normal(2, 3, 16, 16)
    name = classes if isinstance(classes, str) else classes[-1]
    model = small(name, family, IMAGES[takes][family], pixels)
    quarters = torch.tensor([[0, 1], [2, -1]]).repeat_interleave(8, 0).repeat_interleave(8, 1)
    check(model, pixels, quarters, takes, full)
    assert documented(family, takes)


@pytest.mark.parametrize(("family", "takes"), [(f, takes) for takes, own in SOUNDS.items() for f in sorted(own)])
def test_sound_classifiers(family, takes, full):
    sound = normal(2, *SHAPES.get(family, (80,)))
    name = MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES[family]
    model = small(name, family, SOUNDS[takes][family], sound)
    owners = (torch.arange(sound[0].numel()) * 3 // sound[0].numel()).reshape(sound.shape[1:])
    check(model, sound, owners, takes, full)
    assert documented(family, takes)


# ---------------------------------------------------------------- causal language models

NOT_CAUSAL = {  # without is_decoder=True
    *("bert", "bert-generation", "big_bird", "camembert", "cpmant", "data2vec-text", "electra", "ernie", "gte"),
    *("megatron-bert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta"),
    *("xlm-roberta-xl", "xlm", "xmod", "xlnet"),
}
TOO_SLOW = {"deepseek_v32", "falcon_h1", "glm_moe_dsa", "nemotron_h"}
PROMPT, OWN = torch.tensor([[1, 7, 12, 9, 33, 21]]), torch.tensor([[-1, -1, 0, 1, -1, 2]])


def by_hand(model, prompt):
    """The log-odds of the tokens 7 and 12 behind a prompt."""
    with torch.no_grad():
        last = model(input_ids=torch.cat([prompt, torch.tensor([7])])[None]).logits[0, -2:].double().log_softmax(1)
    log_p = float(last[0, 7] + last[1, 12])
    return log_p - math.log(-math.expm1(log_p))


@pytest.mark.full
@pytest.mark.parametrize("family", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
def test_continuations(family):
    """All masked copies by hand, the prompt with padding, and the table of the page on models."""
    if family in TOO_SLOW or getattr(getattr(transformers, CONFIG_MAPPING_NAMES[family]), "sub_configs", None):
        pytest.skip("is made of several models, or takes several seconds on these sizes")
    model = small(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[family], family, None, PROMPT)
    if family in NOT_CAUSAL:
        with pytest.raises(ValueError, match="is not causal"):
            Continuation(model, [7, 12])
        return
    says = Continuation(model, [7, 12])
    found = AndOrInteraction(says, noise=0, kind="and").attribute(players_from_mask(PROMPT, 3, OWN))[0]
    for subset, value in enumerate(found.values.tolist()):
        absent = [i for i, player in enumerate(OWN[0].tolist()) if player >= 0 and not subset >> player & 1]
        masked = PROMPT[0].clone()
        masked[absent] = 3
        assert value == pytest.approx(by_hand(model, masked), abs=1e-3, rel=1e-4)
    with torch.no_grad():
        left = torch.cat([torch.zeros(1, 3, dtype=torch.int64), PROMPT], 1)
        assert float(says(left, (left != 0).long())) == pytest.approx(float(says(PROMPT)), abs=1e-4)
    how = "computed once" if found.provenance["evaluation"] == "prefix tree" else "computed again"
    try:
        logit_lens(model)
    except ValueError as error:
        lens = "refused" if "modules=[...]" in str(error) else str(error)
    else:
        lens = "equal to the output"
    assert documented(family, how, lens)
