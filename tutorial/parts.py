"""Parts of the data of a reader's own, in the place of a share of the data."""


def with_own_parts(parts, batch_size, test_data=(), val_data=()):
    """The parts (training, test, validation) as the notebook's `split` gives them, with those that are given in their
    place: what a replaced part had goes to training. Raises ValueError if one part would be empty, or training would
    have less than one batch."""
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
