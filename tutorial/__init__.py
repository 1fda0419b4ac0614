"""What the notebook needs around the model.

    instructions    the notebook's own definitions: prompt, data set, collate function, split, answers
    recipes         which data fit a model, and with which settings it is fine-tuned
    data_files      a data file as checked entries
    file_formats    the records in a file: JSON, JSON Lines, CSV
    entries         one record, with any known keys, as an entry
    parts           parts of a reader's own: training, test, validation
    overlap         near repetitions across the parts of the data, and tasks that a part lacks
    scores          how good answers are
    tables          the notebook's tables
    intervals       how sure shares and differences are
    record          what made a result, in a file
    figures         the tutorial's drawings
    captions        what stands below them
    settings        settings that come from the environment
    page            the tutorial as a web page
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "GPT2_instruction_finetuning.ipynb"
MINIATURE_DIR = ROOT / "gpt2/7M"  # the embedded model; its tokenizer is that of every GPT-2
