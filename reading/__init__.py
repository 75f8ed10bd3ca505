"""The application's work: reading sessions and the sample library. Plain Python over the models."""
