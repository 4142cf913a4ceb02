"""Sources of features: a model and its images, arrays made elsewhere, published files."""
