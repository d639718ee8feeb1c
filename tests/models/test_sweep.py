"""All families of text classifiers that can be built small: alone against beside a longer text, and the lens."""

import re
import warnings
from pathlib import Path

import pytest
import torch
import transformers
from forwards import plain
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

from captum_lkn import LayerAndOrInteraction, check_model, logit_lens
from captum_lkn.models.layers import Layer

pytestmark = pytest.mark.slow

# Each family takes the names that its configuration has, and so do the configurations inside it.
NAMES_OF_SIZES = {
    1: "num_experts_per_tok moe_k n_group topk_group num_experts_per_token",
    2: "num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers num_decoder_layers "
    "num_attention_heads num_key_value_heads num_heads n_head n_heads encoder_attention_heads decoder_attention_heads "
    "num_experts num_local_experts type_vocab_size",
    4: "rotary_dim num_latents",
    5: "entity_vocab_size",
    8: "head_dim d_head d_kv moe_intermediate_size "
    "v_head_dim qk_rope_head_dim qk_nope_head_dim q_lora_rank kv_lora_rank",
    16: "hidden_size intermediate_size d_model n_embd n_inner d_inner dim hidden_dim emb_dim embedding_size d_ff "
    "encoder_ffn_dim decoder_ffn_dim ffn_dim word_embed_proj_dim d_latents",
    40: "max_position_embeddings n_positions",
    60: "vocab_size",
    0.5: "initializer_range init_std",
}
SIZES = {name: size for size, names in NAMES_OF_SIZES.items() for name in names.split()}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}

# Settings that a family needs beside these; None where a name must not be set.
TWO_KINDS_OF_LAYERS = {"layer_types": ["linear_attention", "full_attention"]}
OWN_SETTINGS = {
    "falcon": {"head_dim": None},
    "funnel": {"num_hidden_layers": None, "block_sizes": [1, 1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"visual_embed": False, "coordinate_size": 4, "shape_size": 0},
    "lilt": {"hidden_size": 24, "channel_shrink_ratio": 2},
    "mistral4": {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4},
    "qwen3_5": {"text_config": TWO_KINDS_OF_LAYERS},
    "qwen3_5_text": TWO_KINDS_OF_LAYERS,
    "qwen3_next": TWO_KINDS_OF_LAYERS,
    "reformer": {"axial_pos_embds": False},
    "t5": {"decoder_start_token_id": 0},
    "xlnet": {"max_position_embeddings": None},
    "xmod": {"default_language": "en_XX"},
}
# What cannot be built, and why. The full suite tries it, and fails where it can be built.
NOT_BUILT = {
    "cohere_compass_text": (KeyError, "its configuration alone lacks the rotary settings of its kinds of layers"),
    "layoutlmv2": (ImportError, "needs detectron2, which is not on PyPI"),
    "zamba": (Exception, "its hybrid layers share a block, which two layers cannot"),
    "zamba2": (Exception, "its hybrid layers share a block, which two layers cannot"),
}

# Their own attention, or a convolution, reads padding: the model itself answers otherwise beside a longer text, and is
# refused there.
READ_PADDING = {"convbert", "fnet", "nystromformer", "t5gemma", "t5gemma2", "yoso"}
PAD_IN_FRONT = {"xlnet"}
# The last blocks of CANINE have no influence on its classifier; Perceiver's are of latents, of which the mask does not
# tell; SqueezeBERT's put out a dict.
WITHOUT_TOKENS = {"canine", "perceiver", "squeezebert"}
WITHOUT_LENS = {
    *("bart", "bigbird_pegasus", "mbart", "mt5", "mvp", "plbart", "umt5"),  # an encoder and a decoder
    *("t5", "t5gemma", "t5gemma2"),  # these, too
    *("big_bird", "canine", "eurobert", "reformer", "squeezebert"),
    "funnel",  # takes no text of one token
    "perceiver",  # takes inputs of any kind, not ids alone
}
# Their last blocks are not in the list with the most parameters.
LAST_BLOCKS = dict.fromkeys(["flaubert", "xlm"], "transformer.layer_norm2.1") | {"markuplm": "markuplm.encoder.layer.1"}

REFUSED = (
    r"no vocabulary|no single list|gives other logits|did not run|cannot be applied"
    r"|no example can be made|no module of|on made-up inputs \[1, 1\], which it does not take"
)

IDS = torch.tensor([[1, 7, 12, 2, 0, 0, 0], [1, 9, 8, 44, 21, 33, 2]])
MASK = (IDS != 0).long()
OWNERS = torch.tensor([[-1, 0, 1, -1, -1, -1, -1]]).expand(2, 7)


def sizes_of(config):
    """The small sizes that a configuration and those inside it have names for."""
    sizes = {name: size for name, size in SIZES.items() if hasattr(config, name)}
    for name in getattr(config, "sub_configs", {}):
        inner = getattr(config, name, None)
        if isinstance(inner, transformers.PretrainedConfig):
            sizes[name] = sizes_of(inner) | {token: i for token, i in TOKENS.items() if hasattr(inner, token)}
    return sizes


def small(family):
    """Build a small model of a family."""
    config_class = getattr(transformers, CONFIG_MAPPING_NAMES[family])
    settings = sizes_of(config_class()) | TOKENS | {"num_labels": 3}
    for name, value in OWN_SETTINGS.get(family, {}).items():
        settings[name] = settings[name] | value if isinstance(value, dict) else value
    config = config_class(**{name: value for name, value in settings.items() if value is not None})
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = getattr(transformers, CLASSIFIERS[family])(config).eval()
        model(input_ids=IDS[1:], attention_mask=MASK[1:])
    return model


@pytest.fixture(scope="module", params=[name for name in sorted(CLASSIFIERS) if name not in NOT_BUILT])
def family(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return request.param, small(request.param)
        except Exception as error:
            if int(transformers.__version__.split(".")[0]) >= 5:
                raise
            pytest.skip(f"the sizes are those of transformers 5 and do not make a model here: {type(error).__name__}")


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in NOT_BUILT if name in CLASSIFIERS])
def test_families_that_are_left_out_cannot_be_built(name):
    error, _ = NOT_BUILT[name]
    with pytest.raises(error):
        small(name)


def test_a_text_alone_and_beside_a_longer_one(family):
    name, model = family

    def values(texts, tokens):
        ids, mask, owners = (
            x[:texts, :tokens].flip(1) if name in PAD_IN_FRONT else x[:texts, :tokens] for x in (IDS, MASK, OWNERS)
        )
        return plain(model).attribute({"input_ids": ids, "attention_mask": mask}, 3, 1, feature_mask=owners)[0].values

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the models about themselves
        alone = values(1, 4)
        if name in READ_PADDING:
            with pytest.raises(ValueError, match="reads padding in spite of the attention mask"):
                values(2, 7)
        else:
            torch.testing.assert_close(values(2, 7), alone, atol=1e-5, rtol=1e-4)


def test_the_page_on_models_has_the_family_in_its_row():
    """The numbers are those of the version of transformers that the page names."""
    if not transformers.__version__.startswith("5.23."):
        pytest.skip("the page's table is of transformers 5.23")
    page = (Path(__file__).parents[2] / "docs/models.md").read_text()
    built = sorted(CLASSIFIERS.keys() - NOT_BUILT.keys())
    assert f"builds {len(built)} of the {len(CLASSIFIERS)} families" in page
    table = page.split("| families | alone and beside a longer text | logit lens |")[1].split("\n\n")[0]
    rows = {}
    for line in table.strip().splitlines()[1:]:
        names, alone, lens = (cell.strip() for cell in line.strip("|").split("|"))
        for name in re.sub(r" \([^)]*\)", "", names).split(", "):
            rows[name] = (alone.startswith("equal"), lens.startswith("equal"))
    assert rows == {name: (name not in READ_PADDING, name not in WITHOUT_LENS) for name in built}


@pytest.mark.full
def test_the_checks_for_users_hold(family):
    name, model = family
    ids, mask, owners = (x.flip(1) if name in PAD_IN_FRONT else x for x in (IDS, MASK, OWNERS))
    inputs = {"input_ids": ids, "attention_mask": mask}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = check_model(model, inputs, baselines=3, target=1, feature_mask=owners, verbose=False)
    failing = [str(check) for check in checks if check.holds is False]
    if name in READ_PADDING | {"canine"}:  # which reads characters by fours: padding behind seven of them counts
        assert any("padding" in check for check in failing)
    else:
        assert failing == []
    if name not in READ_PADDING:
        open_ones = [check.name for check in checks if check.holds is None]
        assert open_ones == ["layers are read where the head reads"] * (name in WITHOUT_TOKENS)


def test_the_lens_is_the_output_at_the_last_block(family):
    name, model = family
    if name in WITHOUT_LENS:
        with pytest.raises(ValueError, match=REFUSED) as refused:
            logit_lens(model)
        assert type(model).__name__ in str(refused.value)
        assert "modules=[...]" in str(refused.value)
        return
    lens = logit_lens(model)
    blocks = max(
        (module for module in model.modules() if isinstance(module, torch.nn.ModuleList)),
        key=lambda module: sum(p.numel() for p in module.parameters()),
    )
    block = LAST_BLOCKS.get(name) or next(n for n, module in model.named_modules() if module is blocks[-1])
    calls = 2 if name == "albert" else 1  # its blocks share their weights
    layer = Layer(block, call_index=calls - 1)
    rows = slice(1, 2) if name in READ_PADDING else slice(None)
    ids, mask, owners = (x[rows].flip(1) if name in PAD_IN_FRONT else x[rows] for x in (IDS, MASK, OWNERS))
    inputs = {"input_ids": ids, "attention_mask": mask}
    method = LayerAndOrInteraction(model, [layer, "output"], probe=lens, score="logit", kind="and", noise=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = method.attribute(inputs, 3, 1, feature_mask=owners)
    for at_block, output in zip(found[layer.label], found["output"], strict=True):
        torch.testing.assert_close(at_block.values, output.values, atol=2e-4, rtol=1e-3)
