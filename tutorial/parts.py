"""A reader's own test and validation files in place of the split's parts."""


def with_own_parts(parts, batch_size, test_data=(), val_data=()):
    """The parts (training, test, validation), with the given test or validation data in place of the split's own part,
    which is then added to training. Raises ValueError if one part would be empty, or training would have less than one
    batch."""
    train, test, val = parts
    total = sum(map(len, parts))
    if test_data:
        train, test = train + test, test_data
    if val_data:
        train, val = train + val, val_data
    if len(train) < batch_size or not test or not val:
        raise ValueError(f"{total} entries are too few: expected {batch_size} for training, and at least one each to "
                         "test and validate")
    return train, test, val
