"""What the notebook needs around the model.

    settings        settings that come from the environment
    recipes         which data fit a model, and with which settings it is fine-tuned
    instructions    the notebook's own definitions: prompt, data set, collate function, split, answers
    data_files      a data file as checked entries
    file_formats    the records in a file: JSON and JSON Lines, or by way of csv_tables
    csv_tables      the records in a CSV file
    entries         one record, with any known keys, as an entry
    errors          the errors of data files
    lines           the lines of a text, with the line ends of any system
    parts           parts of a reader's own: training, test, validation
    overlap         near repetitions across the parts of the data, and tasks that a part lacks
    observe         what a model says and expects, and where it looks
    scores          how good answers are
    intervals       how sure shares and differences are
    tables          the notebook's tables
    figures         the notebook's figures
    captions        their captions
    messages        texts that are cut to a length
    record          what made a result, in a file
    exercises       training and checks for the exercises
    page            the tutorial as a web page
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "GPT2_instruction_finetuning.ipynb"
MINIATURE_DIR = ROOT / "gpt2/7M"  # the embedded model; its tokenizer is that of every GPT-2
