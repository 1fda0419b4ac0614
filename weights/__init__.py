"""GPT-2's weights as files: where they come from, how they are read, and how this project writes them.

    sizes               the table of GPT-2's models: their names, their sizes, where their weights are published
    transfer            downloads that resume where they stopped
    tf_checkpoint       TensorFlow's checkpoint format, read by memory map
    huggingface         GPT-2 from Hugging Face's format
    huggingface_export  GPT-2 to Hugging Face's format
    tokenizer           GPT-2's tokenizer, from OpenAI's two files
    empty               a model without memory for its weights, to load them into
    saved               this project's model file
    values              values as plain numbers, lists and bytes
    files               writing a file whole or not at all
    errors              the errors of files and downloads

Of this project, these modules import only each other and the textbook, `previous_chapters.py`.
"""
