"""What is learned: batches, loss and metrics."""
