"""What the work is: reading sessions and the sample library. Plain Python over the models."""
