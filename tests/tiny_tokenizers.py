"""Small tokenizers of every kind that matters here; none is downloaded."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

WORDS = ["not", "a", "single", "good", "scene", "the", "of", "and", "bad", "film", ",", ".", "!", "don", "'", "t"]

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def word_level(words=WORDS, **special):
    """Words and punctuation split as in BERT, with [CLS] and [SEP] around, and the given special tokens."""
    present = {"unk_token": "[UNK]", "mask_token": "[MASK]", "pad_token": "[PAD]", **special}
    present = {role: token for role, token in present.items() if token is not None}
    vocabulary = {token: i for i, token in enumerate([*present.values(), "[CLS]", "[SEP]", *words])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **present,
    )


def byte_level(post_processor=None, special_tokens=(), **roles):
    """Byte-level BPE with a few merges of English words."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["a good scene, not a bad one"] * 3, trainer)
    if post_processor is not None:
        raw.post_processor = post_processor
    return PreTrainedTokenizerFast(tokenizer_object=raw, **roles)


def roberta_like():
    """Byte-level BPE with RoBERTa's special tokens, and offsets without the space before a word."""
    return byte_level(
        processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False),
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def gpt2_like():
    """Byte-level BPE with one special token, and offsets that include the space before a word."""
    end = "<|endoftext|>"
    return byte_level(processors.ByteLevel(trim_offsets=False), [end], bos_token=end, eos_token=end)


def chat_like():
    """Byte-level BPE with a chat template."""
    raw = Tokenizer(models.BPE())
    raw.decoder = decoders.ByteLevel()
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" a good user is not a bad user"] * 3, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    made.chat_template = CHAT_TEMPLATE
    return made


def paris_bytes():
    """Byte-level BPE that knows "Pa" with and without a space before it."""
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet())[:20], "Ġ", "P", "a", "r", "Ċ", "Pa", "ĠPa"]
    vocabulary = {letter: i for i, letter in enumerate(dict.fromkeys(letters))}
    raw = Tokenizer(models.BPE(vocabulary, [("P", "a"), ("Ġ", "Pa")]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=raw)


def paris_pieces():
    """BPE as SentencePiece exports it, which begins every text with a space of its own; it knows "Pa"."""
    letters = ["<unk>", "▁", "P", "a", "r", "\n", "Pa", "▁Pa"]
    return _prepending(letters, [("P", "a"), ("▁", "Pa")])


def llama_like():
    """BPE as SentencePiece exports it: nothing is split before the merges, and the sentence has one word id."""
    return _prepending(["<unk>", "▁", "a", "b", "c", "▁a", "▁b"], [("▁", "a"), ("▁", "b")], mask_token="<unk>")


def _prepending(letters, merges, **roles):
    raw = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, merges, unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", **roles)


class Letters(PreTrainedTokenizer):
    """A slow tokenizer, in Python, that knows no words."""

    def __init__(self, **kwargs):
        self.tokens = ["[PAD]", "[MASK]", "[UNK]", *"abcdefg"]
        super().__init__(pad_token="[PAD]", mask_token="[MASK]", unk_token="[UNK]", **kwargs)

    @property
    def vocab_size(self):
        return len(self.tokens)

    def get_vocab(self):
        return {token: i for i, token in enumerate(self.tokens)}

    def _tokenize(self, text, **kwargs):
        return list(text.replace(" ", ""))

    def _convert_token_to_id(self, token):
        return self.tokens.index(token) if token in self.tokens else 2

    def _convert_id_to_token(self, index):
        return self.tokens[index]
