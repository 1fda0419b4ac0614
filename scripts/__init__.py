"""Programs for after the tutorial, one file each; translation/ is behind translate.py. Here is what several use."""

import sys


def saved_model(path):
    """The model in a file that `save_model` wrote, and its config: (model, config). Ends the program with one sentence
    if there is no such file, or if it is something else."""
    from weights.saved import load_model  # only here: translate.py, in this package, needs no PyTorch
    try:
        return load_model(path)
    except FileNotFoundError:
        sys.exit(f"There is no fine-tuned model in {path} yet: `make run` makes one and saves it as "
                 "build/gpt2-instruct.pt")
    except IsADirectoryError:
        sys.exit(f"{path} is a folder: give the file in it that save_model wrote, such as gpt2-instruct.pt")
    except OSError as error:
        sys.exit(f"can't read {path}: {error.strerror}")
    except ValueError as error:
        sys.exit(str(error))
