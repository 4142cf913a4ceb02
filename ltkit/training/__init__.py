"""Training a network from images, or a head on cached features, in one plain loop.

`runs` does all that ``ltkit train`` does; `recipe` says what a run is, `loop` is the loop. torch is
not imported here, so that ``--help`` stays quick.
"""
