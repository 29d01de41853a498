"""The ask/tell engine: methods that propose cells and are told values."""
