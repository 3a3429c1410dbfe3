"""What the published comparison says of its two models beside scores and times: its table 4.1.

Holds its words in both languages with their source, and what the published files say where that is
something else. Not measured here, and never mixed with what is.
"""

from dataclasses import dataclass

ARTICLE = "Qwen1.5-0.5B-Chat vs ChatGLM-6B, table 4.1"


@dataclass(frozen=True)
class Property:
    """One row of the table for one model.

    Attributes:
        key: Which row; the page has its heading in both languages.
        source: Where it is said.
    """

    key: str
    zh: str
    en: str
    source: str = ARTICLE


QWEN_0_5B = (
    Property("parameters", "0.5 B", "0.5 B"),
    Property("least_memory", "2 GB", "2 GB"),
    Property("cpu_only", "完全可以", "fully"),
    Property("streaming", "原生支持", "natively"),
    Property("context", "32K", "32K"),
    Property("context", "32,768", "32,768", "config.json, max_position_embeddings"),
    Property("ecosystem", "ModelScope", "ModelScope"),
    Property("licence", "Apache 2.0", "Apache 2.0"),
    Property(
        "licence",
        "通义千问研究许可协议：商用须另行申请",
        "Tongyi Qianwen RESEARCH LICENSE: commercial use must be asked for",
        "LICENSE beside the published weights",
    ),
    Property("fine_tuning", "LoRA、P-Tuning", "LoRA, P-Tuning"),
    Property("effort", "很低", "very low"),
)
CHATGLM_6B = (
    Property("parameters", "6 B", "6 B"),
    Property("least_memory", "6 GB 以上", "6 GB and more"),
    Property("cpu_only", "仅 int4，效果差", "int4 only, poorly"),
    Property("streaming", "支持，延迟高", "yes, with high delay"),
    Property("context", "8K", "8K"),
    Property("context", "2,048", "2,048", "config.json, max_sequence_length"),
    Property("ecosystem", "Hugging Face 和 ModelScope", "Hugging Face and ModelScope"),
    Property("licence", "可商用，须遵守其模型许可", "commercial use under its own model licence"),
    Property("fine_tuning", "多种方法", "several methods"),
    Property("effort", "较高（需要调优技巧）", "higher (needs tuning tricks)"),
)
