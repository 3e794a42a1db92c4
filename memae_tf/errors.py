"""What went wrong on the user's side."""


class UserError(ValueError):
    """A mistake of the user's, in one line that names what is wrong and what would be right.

    The commands print it and exit with status 2.
    """
