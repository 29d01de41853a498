"""The gradient engine: supernet, relaxation and bilevel steps, from batches to a cell."""
