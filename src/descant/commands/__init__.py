"""The subcommands of `descant`, one a file."""
