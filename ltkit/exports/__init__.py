"""Where a correction goes: back into the checkpoint, or into other tools' files."""
