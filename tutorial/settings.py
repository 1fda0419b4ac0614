"""Settings that come from outside."""

import os


def override_from_environment(namespace):
    """Give each setting in a namespace, a name in capitals for a text or a number, the value that an environment
    variable of the same name has, and print it if it is another. Raises ValueError for what is no number where one is
    wanted."""
    for name, default in list(namespace.items()):
        if name.isupper() and name in os.environ and type(default) in (str, int, float):
            try:
                namespace[name] = type(default)(os.environ[name])
            except ValueError as error:
                kind = "whole number" if type(default) is int else "number"
                raise ValueError(f"{name} is {os.environ[name]!r}: want a {kind} such as {default}") from error
            if namespace[name] != default:
                print(f"{name} = {namespace[name]!r} (from the environment)")
