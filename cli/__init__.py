"""The command line `pointsman`: one module per command, `render` for what a person sees, `layout` for how it
fits, `terminal` for where it goes."""
