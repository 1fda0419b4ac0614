"""How the miniature and its data were made.

    words           the words to ask about, and the facts about them
    wordings        templates for the facts, and sentences about grammar
    tasks           the wordings of the tasks, and their answers
    grammar         word forms, and a sentence in all its forms
    corpus          the pretraining text
    instructions    the instruction set
    pretrain        the pretraining
    export          the result as a checkpoint in OpenAI's layout
    recipe          the fine-tuning recipe, and its scores
    experiments     what fine-tuning teaches, and what was there before
"""
