"""The one exception that reaches a user as a message instead of a traceback."""


class UserError(ValueError):
    """Something the user gave is wrong; the command line prints it and exits with code 2.

    The message says where (file and key path), what was given, what is allowed and what to do.
    """
