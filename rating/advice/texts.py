"""The words of the advice in Chinese and English: sentences of reasons, names, headings.

Words alone, as (Chinese, English); what fills the braces, and which sentence applies, is decided
elsewhere. The page and the command both read them here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from db import Language

Text = tuple[str, str]

SENTENCES: Mapping[str, Text] = MappingProxyType(
    {
        # The verdict: which model to take, or why none.
        "take_only_fitting": (
            "建议选用 {model}：测过的模型里，已知能在限制之内回答的只有它。",
            "Take {model}: of the models measured, it alone is known to answer within the limits.",
        ),
        "take_only_measured": (
            "只测了 {model}：没有发现不合适的地方，但也没有别的模型可比。",
            "{model} is the only model measured: nothing speaks against it, and there is nothing "
            "to choose from.",
        ),
        "take_better_rated": (
            "建议选用 {model}：在满足限制的模型里，它的评分更高。",
            "Take {model}: of the models that keep to the limits, it is scored higher.",
        ),
        "take_tie_break": (
            "可以选用 {model}，但这只是评分分不出高下时的取舍：看不出哪个模型答得更好，所以取更省、"
            "更快的，正如文章对边缘设备和快速原型的做法。",
            "Take {model}, but only as a tie-break: the ratings do not show which model answers "
            "better, so the smaller and quicker one is taken, as the article does for edge devices "
            "and prototypes.",
        ),
        "take_by_resources": (
            "可以选用 {model}，理由只是它更省、更快：这些模型还没有放在一起评过分，哪个答得更好"
            "并不知道。",
            "Take {model} only for being smaller and quicker: these models were never rated beside "
            "each other, so nothing is known of which one answers better.",
        ),
        "undecided": (
            "现有数据不足以决定：在 {models} 之间，评分和实测都没有明确支持其中一个。",
            "The data do not decide: between {models}, neither the ratings nor what was measured "
            "speaks clearly for one.",
        ),
        "nothing_fits": (
            "没有模型满足限制。最接近的是 {model}：{figure}为 {took}，比限制 {limit} 多 {over}。",
            "No model keeps to the limits. Nearest is {model}: {figure} {took}, {over} over the "
            "limit of {limit}.",
        ),
        "only_unchecked": (
            "剩下的模型都没有测全，无法判断是否满足限制。请先测量。",
            "Of the models that are left, none was measured enough to check the limits. Measure "
            "first.",
        ),
        "nothing_runs": (
            "测量时没有一个模型给出回答。",
            "None of the models gave an answer when it was measured.",
        ),
        "nothing_measured": (
            "还没有测量过任何模型。请先测量。",
            "Nothing has been measured yet. Measure first.",
        ),
        # Limits.
        "within": (
            "{model} 满足限制：{figure}为 {took}，限制为 {limit}。",
            "{model} keeps to the limit: {figure} {took}, limit {limit}.",
        ),
        "near": (
            "{model} 只是勉强满足限制：{figure}为 {took}（波动或误差范围 {low} 至 {high}），"
            "限制为 {limit}。",
            "{model} keeps to the limit only narrowly: {figure} {took} (give or take: {low} to "
            "{high}), limit {limit}.",
        ),
        "over_narrowly": (
            "{model} 略微超出限制，不合格：{figure}为 {took}（波动或误差范围 {low} 至 {high}），"
            "限制为 {limit}。",
            "{model} is out, though narrowly: {figure} {took} (give or take: {low} to {high}), "
            "limit {limit}.",
        ),
        "over": (
            "{model} 不合格：{figure}为 {took}，比限制 {limit} 多 {over}。",
            "{model} is out: {figure} {took}, {over} over the limit of {limit}.",
        ),
        "unchecked": (
            "{model} 的{figure}没有测到，无法判断是否满足限制 {limit}。",
            "The {figure} of {model} was not measured: whether it keeps to the limit of {limit} is "
            "not known.",
        ),
        "elsewhere": (
            "{model} 在别的地址上运行：不占用这台机器的内存，在那边占用多少也测不到。",
            "{model} runs at another address: it takes no memory here, and what it takes there "
            "can't be measured.",
        ),
        # How the measurement went.
        "unmeasured": (
            "{model} 还没有测到任何回答。",
            "No answer of {model} was measured yet.",
        ),
        "failed": ("{model} 没有给出回答：{error}", "{model} gave no answer: {error}"),
        "some_failed": (
            "{model} 在 {asked} 次提问中有 {failed} 次没有给出回答。",
            "{model} gave no answer {failed} of {asked} times.",
        ),
        "partly": (
            "{model} 没有测全：{error}",
            "Not everything of {model} was measured: {error}",
        ),
        # Ratings.
        "better_rated": (
            "{model} 的评分高于 {other}（{ground}）：{difference} 分，95% 区间 {low} 至 {high}；"
            "{prompts} 个问题，{ratings} 次评分。",
            "{model} is scored higher than {other} ({ground}): {difference} points, 95 % interval "
            "{low} to {high}; {prompts} prompts, {ratings} rated trials.",
        ),
        "ratings_undecided": (
            "评分分不出 {model} 与 {other} 的高下（{ground}）：前者减后者 {difference} 分，95% 区间"
            " {low} 至 {high}，包含 0；{prompts} 个问题，{ratings} 次评分。这并不证明两者一样好。",
            "The ratings do not tell {model} from {other} ({ground}): the first minus the second "
            "is {difference} points, 95 % interval {low} to {high}, which holds 0; {prompts} "
            "prompts, {ratings} rated trials. That does not prove them equal.",
        ),
        "ratings_too_few": (
            "{model} 与 {other} 的评分太少，不能下结论（{ground}）：只涉及 {prompts} 个不同的"
            "问题，至少需要 {needed} 个。",
            "Too few ratings of {model} and {other} to conclude anything ({ground}): {prompts} "
            "different prompts, at least {needed} are needed.",
        ),
        "no_ratings": (
            "{model} 与 {other} 还没有放在一起评过分（{ground}）。",
            "{model} and {other} have not been rated beside each other ({ground}).",
        ),
        "open_ratings": (
            "{model} 与 {other} 只有明评：评分者知道哪边是哪个模型。",
            "{model} and {other} were rated openly only: the raters knew which was which.",
        ),
        "rated_otherwise": (
            "{model} 被评分时的版本或精度与测量时不同。",
            "{model} was rated in another revision or precision than it was measured in.",
        ),
        "disturbed": (
            "测量 {model} 时，其他程序占用了全部核心的 {taken}：它的用时偏长，不作依据。"
            "请在空闲的机器上重测。",
            "Other programs took {taken} of all cores while {model} was measured: its times are "
            "too long and decide nothing. Measure again on an idle machine.",
        ),
        "better_but_out": (
            "{model} 不合格，但评分高于 {other}：若能放宽限制或换更强的机器，质量会更好。",
            "{model} is out, but is scored higher than {other}: looser limits or a stronger "
            "machine would gain quality.",
        ),
        # What the models take, beside each other.
        "less": (
            "{figure}：{model} 为 {took}，{other} 为 {other_took}。",
            "{figure}: {model} {took}, {other} {other_took}.",
        ),
        "not_apart": (
            "{figure}：{model}（{took}）与 {other}（{other_took}）没有明确的差别。",
            "{figure}: no clear difference between {model} ({took}) and {other} ({other_took}).",
        ),
        "not_compared": (
            "{figure}：{model} 与 {other} 没有都测到。",
            "{figure}: not measured for both {model} and {other}.",
        ),
        "one_model": ("能比较的模型不到两个。", "There are not two models to compare."),
        "builtin": (
            "{model} 是用来试用面板的内置微型模型，不能代表真实模型。",
            "{model} is a tiny built-in model for trying the panel, no measure of real ones.",
        ),
    }
)
"""What each code says."""

NAMES: Mapping[str, Text] = MappingProxyType(
    {
        "memory": ("峰值内存", "peak memory"),
        "size": ("文件大小", "size of the files"),
        "start": ("冷启动", "cold start"),
        "first_token": ("首字时间", "time to the first token"),
        "answer": ("完整回答时间", "time for an answer"),
        "all": ("全部维度", "all dimensions"),
        "dialogue": ("语义理解、连贯、多轮记忆", "understanding, coherence, memory"),
        "language": ("表达自然度、逻辑推理", "naturalness, reasoning"),
    }
)
"""What figures, and the grounds of a rating, are called within a sentence."""

SITUATIONS: Mapping[str, Text] = MappingProxyType(
    {
        "edge": ("边缘设备", "edge device"),
        "in_house": ("企业内部问答", "in-house Q&A"),
        "service": ("固定话术客服", "scripted customer service"),
        "prototype": ("快速原型", "quick prototype"),
        "dialogue": ("研究或深度对话", "research or deep dialogue"),
        "deployment": ("部署速度和成本", "speed and cost of deployment"),
        "tight": ("延迟和内存受限", "limits of latency and memory"),
        "mvp": ("快速做出 MVP", "quick MVP"),
        "complex": ("语言质量和复杂任务", "language quality and complex tasks"),
    }
)
"""What the article's situations are called."""

WORDS: Mapping[str, Text] = MappingProxyType(
    {
        "title": ("该选哪个模型", "Which model to take"),
        "limits": ("限制：{limits}", "Limits: {limits}"),
        "no_limits": ("无", "none"),
        "model": ("模型", "model"),
        "seconds": ("{name}（秒）", "{name} (s)"),
        "state": ("是否满足限制", "within the limits"),
        "fits": ("满足", "yes"),
        "out": ("不满足", "no"),
        "unchecked": ("无法判断", "not known"),
        "failed": ("没有给出回答", "gives no answer"),
        "score": ("评分（1 到 5）", "score (1 to 5)"),
        "article_title": (
            "文章的建议（4.2、5.2）与这里的数据",
            "The article's advice (its 4.2 and 5.2) beside the data here",
        ),
        "situation": ("情形", "situation"),
        "article": ("文章建议", "the article takes"),
        "gpu": ("{model}（有 GPU 时）", "{model} (with a GPU)"),
        "turns_on": ("依据", "turns on"),
        "supports": ("这里的数据支持", "the data here support"),
        "agreement": ("与文章相比", "beside the article"),
        "why": ("理由", "why"),
        "agrees": ("一致", "agree"),
        "disagrees": ("不一致", "disagree"),
        "cant_tell": ("数据不足以判断", "can't tell"),
        "not_compared": ("不是文章比较的模型", "not the article's models"),
        "article_note": (
            "文章只给出情形和建议的模型，没有给出规则；“依据”一列是对其理由的解读，"
            "不受上面所设限制的影响。文章关于 GPU 的说法在这里没有验证。",
            "The article names situations and models but no rule: what each turns on is read from "
            "its reasons, and the limits set above play no part in it. What it says of a GPU was "
            "not tried here.",
        ),
    }
)
"""Headings and words of the report."""


def chosen(text: Text, language: Language) -> str:
    """Return the one of (Chinese, English) that is in `language`."""
    return text[0] if language is Language.ZH else text[1]
