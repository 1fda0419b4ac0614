"""What the notebook needs around the model.

    settings        settings that come from the environment
    recipes         which data fit a model, and with which settings it is fine-tuned
    instructions    the notebook's own definitions: prompt, data set, collate function, split, answers
    data_files      a data file as checked entries
    file_formats    the records in a file, by way of json_records and csv_tables
    json_records    the records in JSON and JSON Lines
    csv_tables      the records in a CSV file
    entries         one record, with any known keys, as an entry
    errors          the errors of data files
    lines           the lines of a text, with the line ends of any system
    parts           a reader's own test and validation files in place of the split's parts
    overlap         entries that nearly repeat one of another part, and tasks that a part lacks
    observe         what a model says and expects, and where it looks
    scores          how good answers are
    intervals       how sure shares and differences are
    tables          the notebook's tables, and what they show
    figures         the notebook's figures
    figure_style    what the figures have in common: colours, fonts, texts that fit, boxes
    captions        the figures' captions
    messages        short, printable texts
    source          the source of classes and functions, displayed
    run_record      the record of a run: what made its result, in a file
    exercises       training and checks for the exercises
    page            the tutorial as a web page
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "GPT2_instruction_finetuning.ipynb"
MINIATURE_DIR = ROOT / "gpt2/7M"  # the embedded model; its tokenizer is that of every GPT-2
