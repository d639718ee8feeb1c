"""Small tokenizers of every kind that matters here; none is downloaded."""

import functools
import json

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
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


CORPUS = [
    "not a single good scene in this movie",
    "Ada lives in Paris and speaks French",
    "don't you love it ? we'll see .",
    "the best , the worst ; nothing else ! it was good , he said : it is it",
    "这部 电影 一点 也 不 好看",
]


@functools.cache
def byte_bpe(*, roberta=True, trim=True):
    """Byte-level BPE that knows English words, in RoBERTa's or GPT-2's form."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if roberta else ["<|endoftext|>"]
    _train(raw, trainers.BpeTrainer, special, vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    if not roberta:
        raw.post_processor = processors.ByteLevel(trim_offsets=trim)
        return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=special[0], bos_token=special[0])
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=trim)
    return PreTrainedTokenizerFast(tokenizer_object=raw, **SPECIAL, cls_token="<s>", sep_token="</s>")


@functools.cache
def sentence_pieces(*, opening=False):
    """Unigram with spaces written as letters and an end token behind each text, as T5 and XLM-R have it."""
    raw = Tokenizer(models.Unigram())
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>", "<mask>", "<s>"]
    _train(raw, trainers.UnigramTrainer, special, vocab_size=110, unk_token="<unk>")
    before = "<s> " if opening else ""
    raw.post_processor = processors.TemplateProcessing(
        single=f"{before}$A </s>", pair=f"{before}$A </s> $B </s>", special_tokens=[("<s>", 4), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, **SPECIAL)


@functools.cache
def byte_fallback():
    """BPE in Llama 2's form: no pre-tokenizer, bytes for unknown characters, an opening token."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    _train(words, trainers.BpeTrainer, special, vocab_size=600)
    learned = json.loads(words.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    raw = Tokenizer(models.BPE(learned["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw.add_special_tokens(["<unk>", "<s>", "</s>"])
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@functools.cache
def word_pieces():
    """WordPiece with BERT's normalizer, which lowers case and strips accents."""
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    _train(raw, trainers.WordPieceTrainer, special, vocab_size=200)
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    roles = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=raw, **roles)


@functools.cache
def characters():
    """One token a character, in the manner of CANINE and ByT5's readers."""
    letters = sorted({letter for text in CORPUS for letter in text} - {" "})
    raw = Tokenizer(
        models.WordLevel({"<unk>": 0, "<mask>": 1, " ": 2} | {x: i + 3 for i, x in enumerate(letters)}, "<unk>")
    )
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", mask_token="<mask>")


SPECIAL = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def _train(raw, trainer, special, **settings):
    raw.train_from_iterator(CORPUS * 5, trainer(special_tokens=special, show_progress=False, **settings))
