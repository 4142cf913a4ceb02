"""Local pseudo-attributes: clusters of the vectors in feature maps, and which images have them.

A map (B, D, H, W) before the global pooling holds a vector for each position of an image. The K
prototypes of a k-means over such vectors of the training images are the attributes; the shares of
an image are how many of its positions fall to each.
"""
