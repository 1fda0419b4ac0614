"""Settings of the notebook that environment variables change."""

import os

from engine.texts import translate


def setting(name, default):
    """The value of the environment variable `name`, converted to the type of `default` (str, int or float); `default`
    if there is no such variable.

    Prints a line if the value differs from the default. Raises ValueError for text where a number is expected.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = type(default)(text)
    except ValueError as error:
        kind = "a whole number" if type(default) is int else "a number"
        raise ValueError(f"the environment variable {name} is {text!r}: expected {kind}, such as {default}") from error
    if value != default:
        print(translate("{} = {!r} (from the environment)").format(name, value))
    return value
