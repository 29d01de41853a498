"""Files that a model can be written to. One file each; nothing else lists them."""
