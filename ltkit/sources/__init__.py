"""Where features come from: a model and its images, arrays made elsewhere, published files."""
