"""The command line `pointsman`: one module per command, `render` for what a person sees."""
