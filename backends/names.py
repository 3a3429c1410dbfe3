"""The names by which an answer may give its model away, in Chinese and English.

Holds the names and takes those of a folder or a remote model apart. Doesn't know how an answer is
watched for them. Words that people use for other things (Google, 百度, falcons, palms, 清华 as a
place to study) are left out: a mask over them would spoil honest answers and tell nothing.
"""

import re
from collections.abc import Iterable

QWEN_NAMES = (
    *("Qwen", "Qwen1.5", "Tongyi", "Tongyi Qianwen", "Qianwen", "通义千问", "通义", "千问"),
    *("Alibaba", "Alibaba Cloud", "Aliyun", "阿里巴巴", "阿里云", "达摩院", "DAMO Academy"),
    *("通義千問", "通義", "千問", "阿里雲", "達摩院"),
)
CHATGLM_NAMES = (
    *("ChatGLM", "ChatGLM-6B", "GLM", "智谱", "智谱AI", "智谱清言", "Zhipu", "Zhipu AI"),
    *("清华大学", "Tsinghua", "KEG Lab", "KEG实验室", "THUDM"),
    *("智譜", "智譜清言", "清華大學", "KEG實驗室"),
)
# Well-known chat models and those who make little else: a model often claims to be one that it
# learned from.
COMMON_NAMES = (
    *QWEN_NAMES,
    *CHATGLM_NAMES,
    *("ChatGPT", "GPT", "GPT-3", "GPT-3.5", "GPT-4", "GPT-4o", "OpenAI", "Claude", "Anthropic"),
    *("Gemma", "DeepMind", "Llama", "TinyLlama", "Vicuna", "Mistral", "Mistral AI", "Mixtral"),
    *("Grok", "DeepSeek", "深度求索", "ERNIE Bot", "文心一言", "Baichuan", "百川智能"),
    *("InternLM", "浦语", "Moonshot AI", "月之暗面", "Kimi", "Doubao", "豆包", "Hunyuan", "混元"),
    *("SparkDesk", "讯飞星火", "星火大模型", "零一万物", "01.AI", "Skywork", "MiniCPM", "OpenBMB"),
    *("面壁智能", "BLOOMZ", "BigScience", "RWKV", "StableLM", "SmolLM", "Nemotron", "OLMo"),
)

# Pieces of folder and model names that are ordinary words, sizes or formats: no answer is given
# away by them, and masking them would spoil honest answers.
_ORDINARY = re.compile(
    r"ai|base|best|chat|checkpoint|ckpt|cn|code|coder|copy|default|demo|distill|distilled|dpo|en|"
    r"export|final|fine|finetune|finetuned|folder|free|full|instruct|instruction|large|latest|llm|"
    r"lm|local|lora|main|math|mega|merged|meta|mini|model|models|moe|my|nano|new|old|open|orig|"
    r"original|output|outputs|post|pre|preview|pro|quant|quantized|rl|rlhf|sft|small|snapshot|"
    r"snapshots|super|test|tiny|tmp|tune|tuned|turbo|ultra|vl|weights|xl|zh|模型|对话|测试|微调|"
    r"awq|bnb|bin|dwq|exl2|ggml|gguf|gptq|hf|mlx|onnx|pytorch|safetensors|"
    r"(b?f|fp|int|it|nf|q|v|w|a)?[\d.]+(b|m|k|t|bit)?|download|downloads",
    re.IGNORECASE,
)


def names_of(name: str) -> tuple[str, ...]:
    """Return what gives away a model called `name`, the well-known names included."""
    pieces = [piece for piece in re.split(r"[^\w.]+|_", name) if _is_distinctive(piece)]
    # "llama3" calls itself "llama", "qwen2.5" calls itself "qwen".
    stems = [stem for piece in pieces if _is_distinctive(stem := piece.rstrip("0123456789."))]
    whole = [name] if pieces else []
    return _without_repeats([*whole, *pieces, *stems, *COMMON_NAMES])


def _is_distinctive(piece: str) -> bool:
    long_enough = len(piece) >= (3 if piece.isascii() else 2)
    return long_enough and _ORDINARY.fullmatch(piece) is None


def _without_repeats(names: Iterable[str]) -> tuple[str, ...]:
    """Return each name once, whatever its case, at its first place and in its last spelling."""
    return tuple({name.casefold(): name for name in names}.values())
