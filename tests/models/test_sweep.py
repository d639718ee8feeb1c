"""All families of text classifiers that can be built small: alone against beside a longer text, and the lens."""

import signal
import warnings

import pytest
import torch
import transformers
from forwards import plain
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

from captum_lkn import LayerAndOrInteraction, logit_lens
from captum_lkn.models.layers import Layer

pytestmark = pytest.mark.slow

# Each family takes the names that its configuration has.
NAMES_OF_SIZES = {
    2: "num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers num_decoder_layers "
    "num_attention_heads num_key_value_heads num_heads n_head n_heads encoder_attention_heads decoder_attention_heads "
    "num_experts num_local_experts type_vocab_size",
    4: "rotary_dim",
    8: "head_dim d_kv moe_intermediate_size",
    16: "hidden_size intermediate_size d_model n_embd n_inner d_inner dim hidden_dim emb_dim embedding_size d_ff "
    "encoder_ffn_dim decoder_ffn_dim ffn_dim word_embed_proj_dim",
    40: "max_position_embeddings n_positions",
    60: "vocab_size",
    0.5: "initializer_range init_std",
}
SIZES = {name: size for size, names in NAMES_OF_SIZES.items() for name in names.split()}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
LARGEST = 30_000_000

# Their own attention, or a convolution, reads padding: the model itself answers otherwise beside a longer text.
READ_PADDING = {"convbert", "fnet", "nystromformer", "yoso"}
WITHOUT_LENS = {
    *("bart", "bigbird_pegasus", "mbart", "mt5", "mvp", "plbart", "umt5"),  # an encoder and a decoder
    *("big_bird", "canine", "eurobert", "flaubert", "markuplm", "squeezebert", "xlm"),
}

REFUSED = r"no vocabulary|no single list|gives other logits|did not run|cannot be applied"

IDS = torch.tensor([[1, 7, 12, 2, 0, 0, 0], [1, 9, 8, 44, 21, 33, 2]])
MASK = (IDS != 0).long()
OWNERS = torch.tensor([[-1, 0, 1, -1, -1, -1, -1]]).expand(2, 7)


def out_of_time(*_):
    raise TimeoutError("takes more than half a minute to build")


def small(family):
    """A small model of a family, or a skipped test where its sizes depend on each other."""
    config_class = getattr(transformers, CONFIG_MAPPING_NAMES[family])
    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(30)
    try:
        known = config_class()
        sizes = {name: size for name, size in SIZES.items() if hasattr(known, name)}
        config = config_class(**sizes, **TOKENS, num_labels=3)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            model = getattr(transformers, CLASSIFIERS[family])(config).eval()
            model(input_ids=IDS[1:], attention_mask=MASK[1:])
    except Exception as error:
        pytest.skip(f"these sizes do not make a model: {type(error).__name__}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if sum(p.numel() for p in model.parameters()) > LARGEST:
        pytest.skip("has large parts whatever its sizes")
    return model


@pytest.fixture(scope="module", params=sorted(CLASSIFIERS))
def family(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return request.param, small(request.param)


def test_a_text_alone_and_beside_a_longer_one(family):
    name, model = family
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the models about themselves
        alone, batch = (
            plain(model)
            .attribute({"input_ids": IDS[:b, :t], "attention_mask": MASK[:b, :t]}, 3, 1, feature_mask=OWNERS[:b, :t])[0]
            .values
            for b, t in ((1, 4), (2, 7))
        )
    same = torch.allclose(alone, batch, atol=1e-5, rtol=1e-4)
    assert same == (name not in READ_PADDING), float((alone - batch).abs().max())


def test_the_lens_is_the_output_at_the_last_block(family):
    name, model = family
    if name in WITHOUT_LENS:
        with pytest.raises(ValueError, match=REFUSED):
            logit_lens(model)
        return
    lens = logit_lens(model)
    blocks = max(
        (module for module in model.modules() if isinstance(module, torch.nn.ModuleList)),
        key=lambda module: sum(p.numel() for p in module.parameters()),
    )
    block = next(n for n, module in model.named_modules() if module is blocks[-1])
    calls = 2 if name == "albert" else 1  # its blocks share their weights
    layer = Layer(block, call_index=calls - 1)
    method = LayerAndOrInteraction(model, [layer, "output"], probe=lens, score="logit", kind="and", noise=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = method.attribute({"input_ids": IDS, "attention_mask": MASK}, 3, 1, feature_mask=OWNERS)
    for at_block, output in zip(found[layer.label], found["output"], strict=True):
        torch.testing.assert_close(at_block.values, output.values, atol=2e-4, rtol=1e-3)
