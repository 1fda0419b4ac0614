"""What the base model knows, asked in the pretraining text's own ways, and what the fine-tuned model answers."""

from collections import Counter
from unittest.mock import patch

from gpt_download import END_OF_TEXT
from miniature import corpus
from miniature.corpus import FACTS, documents
from miniature.experiments.models import answers, fine_tuned, log_probs, right, tokenizer, world
from miniature.experiments.questions import in_own_ways, unshown_questions


def right_ways(model, task, facts):
    """For each fact, in how many of the pretraining text's own ways the model continues with the right answer, taking
    its most likely token each time."""
    encode, numbers = tokenizer().encode_ordinary, tokenizer().number
    asked = [(i, before, answer) for i, fact in enumerate(facts) for before, answer in in_own_ways(task, fact)]
    found = log_probs(model, [[numbers[END_OF_TEXT], *encode(before)] for _, before, _ in asked],
                      [encode(f" {answer}") for _, _, answer in asked])
    counts = Counter(i for (i, _, _), (_, best) in zip(asked, found) if all(best))
    return [counts[i] for i in range(len(facts))]


def identity(fact):
    return (fact["a"], fact["b"]) if "a" in fact else fact["word"], fact["answer"]


def times_told():
    """How often the pretraining text tells each fact: in how many of its statements, questions and lines the answer
    stands. (Choices among three words, which tell categories too, aren't counted.)"""
    counts = Counter()

    def fill(random, template, fact):
        if "{answer}" in template or "{a_answer}" in template:
            counts[identity(fact)] += 1
        return fill_in(random, template, fact)

    fill_in = corpus.fill
    with patch.object(corpus, "fill", fill):
        for _ in documents():
            pass
    return {task: [counts[identity(fact)] for fact in facts] for task, facts in FACTS.items()}


def facts(condition, seed):
    """`base`: for every fact, in how many ways the base model knows it, and how often it was told. `fine-tuned`: which
    answers to questions about facts that no training entry has are right, in known and in new wordings."""
    if condition == "base":
        return {"ways": {task: len(in_own_ways(task, told[0])) for task, told in FACTS.items()},
                "right ways": {task: right_ways(world()[0], task, told) for task, told in FACTS.items()},
                "told": times_told()}
    model, numbers = fine_tuned(seed), {}
    for kind in ("known", "new"):
        asked = unshown_questions(kind)
        numbers[kind] = right(answers(model, asked), asked)
    return numbers
